"""All methods, in the order of the report's tables."""

from __future__ import annotations

from echo_embeddings import EchoConfig

from .configs import Config
from .kv_embedding import KVEmbedding
from .masks import Masked
from .meta_eol import MetaEOL
from .method import Method
from .token_prepending import HierarchicalTokenPrepending, TokenPrepending

__all__ = ["CLASSICAL", "CLASSICAL_LAST", "COMPUTE_MATCHED", "ECHO", "ECHO_LAST", "PLAIN", "methods"]

_ECHO_PAPER = "arXiv 2402.15449"


def _preset(name: str, source: str, preset: str, **changes: object) -> Config:
    return Config(name, source, EchoConfig.preset(preset).replace(**changes))


CLASSICAL = _preset("classical, mean", f"{_ECHO_PAPER}, section 4.2", "classical")
CLASSICAL_LAST = _preset("classical, last token", f"{_ECHO_PAPER}, table 4", "classical-last")
ECHO = _preset("echo, mean", f"{_ECHO_PAPER}, section 4.2", "echo")
ECHO_LAST = _preset("echo, last token", f"{_ECHO_PAPER}, table 4", "echo", pooling="last")
#: The tokens of each text are halved by the experiment, which knows how many there may be.
COMPUTE_MATCHED = "echo, compute-matched"
#: The classical method in the way of those that are no config, for the ratio of their times.
PLAIN = Masked("classical, as transformers runs it", _ECHO_PAPER, "causal")


def methods(max_length: int) -> tuple[Method, ...]:
    """All methods; compute-matched echo reads half of ``max_length`` tokens of a text."""
    return (
        CLASSICAL,
        _preset("classical, weighted mean", "SGPT, arXiv 2202.08904", "classical-weighted"),
        CLASSICAL_LAST,
        ECHO,
        ECHO_LAST,
        _preset(COMPUTE_MATCHED, f"{_ECHO_PAPER}, table 1", "compute-matched", max_length=max_length // 2),
        Config("repetition without instruction", "the echo paper does not have it", EchoConfig("{text}\n{text}")),
        _preset("late echo", "ours", "late-echo"),
        _preset("PromptEOL", "arXiv 2307.16645", "prompt-eol"),
        _preset("Pretended CoT", "arXiv 2404.03921", "pretended-cot"),
        _preset("Knowledge Enhancement", "arXiv 2404.03921", "knowledge-enhancement"),
        TokenPrepending("Token Prepending", "arXiv 2412.11556"),
        HierarchicalTokenPrepending("Hierarchical Token Prepending", "arXiv 2511.14868"),
        KVEmbedding("KV-Embedding", "arXiv 2601.01046"),
        # What is left of it if no layer sees more than before: whether its keys and values are what helps.
        _preset("KV-Embedding, prompt and pooling alone", "arXiv 2601.01046", "kv-embedding-prompt"),
        Masked("bidirectional mask", "arXiv 2404.05961, without its training", "both ways"),
        Masked("bidirectional, first token hidden", "ACL 2025, 2025.acl-long.1113", "both ways, without the first"),
        MetaEOL("MetaEOL", "arXiv 2402.18458"),
    )
