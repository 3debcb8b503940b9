"""Models of other sizes with random weights: throughput depends on the shapes, not on the values.

Weights are drawn on the device where they are used, in bfloat16, from one seed: this takes seconds for 7B parameters,
while reading a file would take minutes. In a process that has called :func:`made_in_place`, ``from_pretrained`` of
``AutoModel`` returns such a model, so contenders load it with their own code. All shapes have the tokenizer of the
built-in model, so all get the same tokens.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, MistralConfig

from echo_embeddings.model import builtin

#: Mistral-7B-v0.3 (as in its published config, without a sliding window), the built-in model, and a tiny one for tests.
SHAPES = {
    "mistral-7b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
#: The contenders that take part: those that need no statistics of the built-in model.
CONTENDERS = ("st-echo-best", "st-classical-best", "ours-echo", "ours-late-echo", "ours-classical")
SEED = 0


def folder(shape: str, tokenizer: Path | None = None) -> Path:
    """Make a folder with the config of such a model and a tokenizer (default: the built-in one), but no weights."""
    place = Path(tempfile.gettempdir()) / f"echo-bench-{shape}"
    if not (place / "done").exists():
        reader = AutoTokenizer.from_pretrained(tokenizer or builtin.folder())
        config = MistralConfig(
            **SHAPES[shape],
            vocab_size=len(reader),
            sliding_window=None,
            max_position_embeddings=32768,
            architectures=["MistralModel"],
            dtype=torch.bfloat16,
        )
        config.save_pretrained(place)
        reader.save_pretrained(place)
        (place / "done").touch()
    return place


def made_in_place(device: str) -> None:
    """Draw weights from now on where this process would load a model. Call it only in the process of a contender."""

    def from_pretrained(name: str, *_: Any, config: Any = None, dtype: Any = None, **options: Any) -> Any:
        known = {key: options[key] for key in ("attn_implementation",) if key in options}
        model = made(config or AutoConfig.from_pretrained(name), device, dtype, **known)
        # As transformers answers: nothing was missing, because nothing was read.
        return (model, {"missing_keys": [], "mismatched_keys": []}) if options.get("output_loading_info") else model

    AutoModel.from_pretrained = from_pretrained


def made(config: Any, device: str, dtype: torch.dtype | str | None, **options: Any) -> Any:
    """Make a model with weights drawn from the seed in bfloat16; then they are converted to ``dtype``."""
    torch.manual_seed(SEED)
    with torch.device(device):
        model = AutoModel.from_config(config, dtype=torch.bfloat16, **options)
    kept = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
    if isinstance(kept, torch.dtype) and kept != torch.bfloat16:
        # Only parameters, one by one: rotary angles stay in float32, and there is never a second copy of all weights.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(kept)
        model.config.dtype = kept
    return model.eval()
