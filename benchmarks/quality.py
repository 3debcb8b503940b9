"""Score configurations on a folder of development sets: README's table of quality is made by this command.

    python -m benchmarks.quality DEV --limit 30 --presets default,zero-shot,echo,classical,prompt-eol

DEV holds ``sts/*.tsv`` (score, sentence1, sentence2) and ``retrieval/*/`` (the layout of BEIR). Scores are Spearman
correlations (STS) and nDCG@10 (retrieval), times 100. ``cost`` is the number of layer-tokens divided by that of a
classical pass through all layers on the same texts.

``--limit N`` takes N queries of each retrieval set and ten documents for each of them, the relevant ones included
(``open_dataset``), which makes the task easier. The STS sets and MED are always whole.

A configuration is the name of a preset or the folder of a trained model. ``default@256`` takes the first 256
dimensions; ``zero-shot+words`` adds the default's words beside the echo. ``--yardstick`` adds any SentenceTransformer,
in bfloat16.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.engine.runtime import Runtime
from echo_embeddings.evaluation.datasets import Dataset, open_dataset
from echo_embeddings.types import Role, Vectors
from echo_embeddings.vectors.normalize import unit

__all__ = ["RETRIEVAL", "STS", "Embedder", "datasets", "layer_tokens", "main"]

#: Pooled states ``[n, hidden]``, and the words beside them if the config has a lexical part.
Parts = tuple[Vectors, Vectors | None]
STS = ("stsb_en", "sick_trial")
RETRIEVAL = ("med", "cisi", "lisa", "scitldr", "squad_devA", "climate_fever_sentences")
#: Sets that ``--limit`` leaves whole.
WHOLE = (*STS, "med")


@dataclass(frozen=True)
class Score:
    """The score of one configuration on one set, times 100, and the layer-tokens that its texts took."""

    config: str
    dataset: str
    value: float
    layer_tokens: int


def datasets(dev: Path, limit: int | None) -> dict[str, Dataset]:
    """Open the development sets, by name, STS first; ``limit`` as in ``--limit``."""
    paths = {name: dev / "sts" / f"{name}.tsv" for name in STS}
    paths |= {name: dev / "retrieval" / name for name in RETRIEVAL}
    return {name: open_dataset(path, None if name in WHOLE else limit) for name, path in paths.items()}


class Embedder:
    """Scores encoders, and computes the pooled states of a set once for all that differ in their transforms only."""

    def __init__(self) -> None:
        self._parts: dict[object, list[Parts]] = {}

    def score(self, name: str, encoder: EchoEncoder, dataset_name: str, dataset: Dataset) -> Score:
        """Embed the texts of a set and score the vectors; ``name`` and ``dataset_name`` go into the result."""
        plain = encoder.config.replace(transforms=(), start_layer=0, exit_layer=None)
        key = (dataset_name, encoder.model_name, plain, encoder.runtime.backbone.layers)
        if key not in self._parts:
            documents, queries = dataset.texts
            parts = (_parts(encoder.runtime, documents, "document"), _parts(encoder.runtime, queries, "query"))
            self._parts[key] = list(parts)
        documents, queries = (unit(encoder.runtime.finished(*parts)) for parts in self._parts[key])
        return Score(name, dataset_name, dataset.score(documents, queries), layer_tokens(encoder, *dataset.texts))


def open_encoder(name: str, model: str | None, max_length: int) -> EchoEncoder:
    """Open an encoder by the name of a preset or a folder, with ``+words`` or ``@dimensions`` after it."""
    base, _, dimension = name.partition("@")
    base, words, _ = base.partition("+words")
    if Path(base).is_dir():
        encoder = EchoEncoder(base, on_truncate="ignore")
        config = encoder.config
    else:
        config = EchoConfig.preset(base)
        encoder = EchoEncoder(model, config, on_truncate="ignore")
    if words:
        config = with_words(config)
    config = config.replace(max_length=max_length).truncated(int(dimension) if dimension else None)
    return encoder.with_config(config)


def with_words(config: EchoConfig) -> EchoConfig:
    """Give a config the default's lexical part, with the weights that it has there in documents and in queries."""
    return config.replace(lexical=EchoConfig.preset("default").lexical)


def yardstick(name: str, sets: dict[str, Dataset], max_length: int) -> Iterator[Score]:
    """Score another embedder on the same sets. Its cost is not counted and stands as 0."""
    import torch

    from sentence_transformers_echo.training.teacher import load

    model = load(name).to(torch.bfloat16)
    model.max_seq_length = max_length
    for dataset_name, dataset in sets.items():
        documents, queries = (
            unit(np.asarray(model.encode(texts, show_progress_bar=False), np.float32)) if texts else np.empty((0, 1))
            for texts in dataset.texts
        )
        yield Score(name, dataset_name, dataset.score(documents, queries), 0)


def _parts(runtime: Runtime, texts: list[str], role: Role) -> Parts:
    template = runtime.config.template_for(role)
    layout, contents = runtime.layout(template, None), runtime.contents(texts, template, None)
    return runtime.states(texts, contents, layout), runtime.words([content.ids for content in contents], role)


def layer_tokens(encoder: EchoEncoder, documents: list[str], queries: list[str]) -> int:
    """The number of tokens that each layer processes, summed over the layers, without padding.

    This is what the linear layers cost, in units of one token in one layer.
    """
    layers, runtime = encoder.runtime.backbone.layers, encoder.runtime
    total = 0
    for texts, template in zip((documents, queries), encoder.config.templates, strict=True):
        layout = runtime.layout(template, None)
        for content in runtime.contents(texts, template, None) if texts else []:
            n = len(content.ids)
            total += layers.start * len(layout.first_pass(n)) + (layers.exit - layers.start) * layout.total(n)
    return total


def table(scores: list[Score]) -> str:
    """Format scores as a Markdown table with one row for each configuration."""
    names = list(dict.fromkeys(score.dataset for score in scores))
    head = ["config", *names, "STS", "retrieval", "cost"]
    rows = [head, ["---", *["--:"] * (len(head) - 1)]]
    classical = sum(score.layer_tokens for score in scores if score.config == "classical")
    for config in dict.fromkeys(score.config for score in scores):
        own = {score.dataset: score for score in scores if score.config == config}
        values = {name: own[name].value for name in names}
        sts = [values[name] for name in names if name in STS]
        retrieval = [values[name] for name in names if name in RETRIEVAL]
        cost = sum(score.layer_tokens for score in own.values()) / classical if classical else float("nan")
        averages = [sum(part) / len(part) if part else float("nan") for part in (sts, retrieval)]
        rows.append([config, *(f"{value:.1f}" for value in [*values.values(), *averages]), f"{cost:.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path, help="folder of development sets")
    parser.add_argument(
        "--presets",
        default="default,zero-shot,echo,late-echo,classical,prompt-eol",
        help="configurations, with commas between (%(default)s)",
    )
    parser.add_argument("--model", help="hub id or folder for the presets (default: the built-in model)")
    parser.add_argument("--limit", type=int, help="queries of each retrieval set (default: all)")
    parser.add_argument("--yardstick", help="another embedder: hub id, folder, or package:name/folder")
    parser.add_argument("--max-length", type=int, default=256, help="tokens of a text that are used (256)")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    arguments = parser.parse_args(argv)
    sets, scores, embedder = datasets(arguments.dev, arguments.limit), [], Embedder()
    for name in arguments.presets.split(","):
        encoder = open_encoder(name, arguments.model, arguments.max_length)
        for dataset_name, dataset in sets.items():
            scores.append(embedder.score(name, encoder, dataset_name, dataset))
            print(f"{name:24} {dataset_name:24} {scores[-1].value:6.2f}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps([vars(score) for score in scores], indent=1))
    if arguments.yardstick:
        scores += yardstick(arguments.yardstick, sets, arguments.max_length)
    print(f"\n{', '.join(f'{name}: {dataset.size}' for name, dataset in sets.items())}\n\n{table(scores)}")


if __name__ == "__main__":
    main()
