"""Score many configurations of a model on labelled sets: templates, start and exit layers, poolings, transforms.

    python -m research.any_model.grid DEV --model FOLDER --texts TEXTS.txt --output grid.json

One pass of the model for each template and start layer gives the states of all exit layers. A configuration is then a
choice of exit layer, pooling and transform, so thousands of them cost a few passes. What a configuration is worth with
labels is what a criterion without labels is judged by (issue 25), and the heat maps of layers come from it (issue 24).

Transforms are fitted twice: on the data set's own documents (``own``), as a user does with texts like those to come,
and on general sentences of other origin (``general``, ``--texts``), as a packaged recipe does.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.engine.readout import pooled_state
from echo_embeddings.evaluation.datasets import Dataset, Pairs, Retrieval, open_dataset
from echo_embeddings.evaluation.metrics import spearman
from echo_embeddings.forward.running import current
from echo_embeddings.model.architecture import layers_of
from echo_embeddings.text.template import Template

STS = ("stsb_en", "stsb_de", "stsb_ja", "sick_trial")
RETRIEVAL = ("med", "cisi", "scitldr", "squad_devA", "climate_fever_sentences", "xquad_de")
MOST_QUERIES, MOST_DOCUMENTS = 500, 2000

REWRITE = "Rewrite the following paragraph: {text}"
TEMPLATES: dict[str, tuple[str | Template, tuple[float, ...]]] = {
    "plain, once": ("{text}", (0.0,)),
    "write, once": ("Write a paragraph: {text}", (0.0,)),
    "rewrite, twice": (f"{REWRITE}\nThe rewritten paragraph: {{text}}", (0.0, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8)),
    "plain, twice": ("{text}\n{text}", (0.0, 0.4, 0.5, 0.6, 0.7, 0.8)),
    "again, twice": ("Text: {text}\nThe text again: {text}", (0.0, 0.6)),
    "one word": (Template('This sentence : "{text}" means in one word:"', pool_tail=True), (0.0,)),
    "context in one word": (Template("Context: {text} Compress the Context in one word:", pool_tail=True), (0.0,)),
    "one word, thought": (
        Template('After thinking step by step , this sentence : "{text}" means in one word:"', pool_tail=True),
        (0.0,),
    ),
}
POOLINGS = ("mean", "last")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the grid; what is finished is written after each pass, and a second run goes on behind it."""
    parser = argparse.ArgumentParser(
        prog="python -m research.any_model.grid", description="Score many configurations of a model on labelled sets."
    )
    parser.add_argument("data", type=Path, help="a folder with sts/*.tsv and retrieval/*/")
    parser.add_argument("--model", help="hub id or folder; the built-in model by default")
    parser.add_argument("--texts", type=Path, required=True, help="general sentences, one a line")
    parser.add_argument("--output", type=Path, required=True, help="a JSON file")
    parser.add_argument("--only", nargs="*", default=list(TEMPLATES), help="names of templates")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further pass after so many")
    parser.add_argument("--pairs", type=int, help="the first of each STS set; all by default")
    parser.add_argument("--queries", type=int, default=MOST_QUERIES)
    parser.add_argument("--documents", type=int, default=MOST_DOCUMENTS)
    given = parser.parse_args(arguments)
    started = time.monotonic()
    sets = {
        name: limited(dataset, given.queries, given.documents)
        for name, dataset in opened(given.data, given.pairs).items()
    }
    general = [line for line in given.texts.read_text(encoding="utf-8").splitlines() if line]
    done: list[dict[str, Any]] = json.loads(given.output.read_text()) if given.output.exists() else []
    for name in given.only:
        template, starts = TEMPLATES[name]
        for start in starts:
            if any(row["template"] == name and row["start"] == start for row in done):
                continue
            if time.monotonic() - started > 60 * given.minutes:
                return
            at = time.monotonic()
            done += scored(given.model, name, template, start, sets, general)
            given.output.write_text(json.dumps(done))
            print(f"{name} from {start}: {time.monotonic() - at:.0f} s, {len(done)} rows", flush=True)


def opened(data: Path, pairs: int | None) -> dict[str, Dataset]:
    """The labelled sets by name."""
    sets = {name: open_dataset(data / "sts" / f"{name}.tsv", pairs) for name in STS}
    return sets | {name: open_dataset(data / "retrieval" / name) for name in RETRIEVAL}


def limited(dataset: Dataset, queries: int, documents: int) -> Dataset:
    """Keep the first queries, their relevant documents, and of the others the first."""
    if not isinstance(dataset, Retrieval):
        return dataset
    judged = dict(list(dataset.judgements.items())[:queries])
    relevant = {one for relevance in judged.values() for one, gain in relevance.items() if gain > 0}
    others = [one for one in dataset.documents if one not in relevant]
    kept = relevant | set(others[: max(0, documents - len(relevant))])
    return Retrieval({one: text for one, text in dataset.documents.items() if one in kept}, dataset.queries, judged)


def scored(
    model: str | None,
    name: str,
    template: str | Template,
    start: float,
    sets: dict[str, Dataset],
    general: list[str],
) -> list[dict[str, Any]]:
    """One row for each exit layer, pooling and transform: its scores on each set."""
    config = EchoConfig(template=template, start_layer=start, final_norm=False)
    off = {"fused_layers": False, "last_layer": False}
    encoder = EchoEncoder(model, config, speed=off, on_truncate="ignore")
    layers = encoder.runtime.backbone.layers
    poolings = ("last",) if isinstance(template, Template) else POOLINGS
    exits = [*range(layers.start + 1, layers.depth + 1), "norm"]
    with captured(encoder, poolings) as embed:
        of_general = embed(general)
        texts = {key: [embed(part) for part in dataset.texts if part] for key, dataset in sets.items()}
    filters = embed_filter(encoder)
    rows = []
    for p, pooling in enumerate(poolings):
        for e, exit_ in enumerate(exits):
            picked = {key: [part[:, e, p] for part in parts] for key, parts in texts.items()}
            for transform, make in transforms(of_general[:, e, p], filters).items():
                scores = {
                    key: score(sets[key], *[make(parts[0])(part) for part in parts]) for key, parts in picked.items()
                }
                row = {"template": name, "start": start, "start_layer": layers.start, "exit_layer": exit_}
                rows.append(row | {"depth": layers.depth, "pooling": pooling, "transform": transform, "scores": scores})
    return rows


@contextmanager
def captured(encoder: EchoEncoder, poolings: Sequence[str]) -> Iterator[Callable[[list[str]], Tensor]]:
    """A function from texts to the pooled states at every exit layer: float32 ``[texts, exits, poolings, dim]``.

    The last of the exits is the last layer with the final norm.
    """
    runtime = encoder.runtime
    first = runtime.backbone.layers.start
    kept: list[Tensor] = []
    takes = [pooled_state(pooling) for pooling in poolings]

    model: Any = runtime.backbone.model
    layers = layers_of(model)

    def hook(layer: Any, _: Any, output: Any) -> None:
        if (now := current()) is not None:
            states = output[0] if isinstance(output, tuple) else output
            kept.append(torch.stack([take(states, now.batch) for take in takes], dim=1))
            if layer is layers[-1]:
                kept.append(torch.stack([take(model.norm(states), now.batch) for take in takes], dim=1))

    handles = [layer.register_forward_hook(hook) for layer in layers[first:]]

    def take(_: Tensor, __: Any) -> Tensor:
        found = torch.stack(kept, dim=1)
        kept.clear()
        return found

    def embed(texts: list[str]) -> Tensor:
        template = runtime.config.template_for("document")
        contents, layout = runtime.contents(texts, template, None), runtime.layout(template)
        out: Tensor | None = None
        for group, rows in runtime._passes(contents, layout, take):  # noqa: SLF001 - the states of every layer
            states = torch.from_numpy(rows.numpy()).to(runtime.backbone.device)
            out = states.new_zeros(len(texts), *states.shape[1:]) if out is None else out
            out[torch.tensor(group, device=out.device)] = states
        return torch.empty(0, 0, len(poolings), 0) if out is None else out

    try:
        yield embed
    finally:
        for handle in handles:
            handle.remove()


def transforms(general: Tensor, basis: Tensor) -> dict[str, Callable[[Tensor], Callable[[Tensor], Tensor]]]:
    """Each transform by name: a function that fits it on a set's documents, and gives the map."""
    whitened = {power: whitening(general, power) for power in (0.5, 1.0)}
    return {
        "none": lambda _: lambda x: x,
        "centre, general": lambda _: lambda x: x - general.mean(0),
        "centre, own": lambda own: lambda x: x - own.mean(0),
        "standardize, general": lambda _: standardizing(general),
        "standardize, own": standardizing,
        "whiten 0.5, general": lambda _: whitened[0.5],
        "whiten 1.0, general": lambda _: whitened[1.0],
        "embed-filter": lambda _: lambda x: x @ basis,
    }


def standardizing(fitted_on: Tensor) -> Callable[[Tensor], Tensor]:
    """Subtract the mean and divide by the standard deviation of each dimension."""
    mean, std = fitted_on.mean(0), fitted_on.std(0, correction=0)
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    return lambda x: (x - mean) / std


def whitening(fitted_on: Tensor, power: float) -> Callable[[Tensor], Tensor]:
    """Divide principal directions by a power of their standard deviation; small ones are held up by shrinkage."""
    standard = standardizing(fitted_on)
    x = standard(fitted_on).double()
    values, directions = torch.linalg.eigh(x.T @ x / len(x))
    scale = (values + 0.1 * values.mean()).pow(-power / 2)
    matrix = (directions * scale).float()
    return lambda vectors: standard(vectors) @ matrix


def embed_filter(encoder: EchoEncoder) -> Tensor:
    """The middle half of the right singular vectors of the unembedding (arXiv 2606.07502)."""
    matrix = torch.as_tensor(encoder.runtime.unembedding(), device=encoder.runtime.backbone.device)
    dim = matrix.shape[1]
    gram = sum(
        (part.double().T @ part.double() for part in matrix.split(16384)), start=torch.zeros(1, device=matrix.device)
    )
    directions = torch.linalg.eigh(gram)[1]
    return directions[:, dim // 4 : dim // 4 + dim // 2].float()


def score(dataset: Dataset, documents: Tensor, queries: Tensor | None = None) -> float:
    """The set's own metric, on the GPU where there is one; equal to ``dataset.score`` but for ties."""
    documents = torch.nn.functional.normalize(documents, dim=1)
    if isinstance(dataset, Pairs):
        row = rows_of_texts(dataset)
        a, b = (
            documents[torch.tensor([row[text] for text in side], device=documents.device)]
            for side in (dataset.first, dataset.second)
        )
        return round(100 * spearman((a * b).sum(1).cpu().numpy(), dataset.scores), 2)
    if not isinstance(dataset, Retrieval) or queries is None:
        raise TypeError("give a data set of pairs, or one of retrieval with its queries")
    gains, ideal, order, asked = judged(dataset, str(documents.device))
    similar = torch.nn.functional.normalize(queries, dim=1)[asked] @ documents[order].T
    found = gains.gather(1, similar.topk(10).indices)
    discount = 1 / torch.log2(torch.arange(2, 12, device=found.device))
    return round(float(100 * ((found * discount).sum(1) / ideal).mean()), 2)


_rows: dict[int, dict[str, int]] = {}
_judged: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}


def rows_of_texts(dataset: Pairs) -> dict[str, int]:
    """The row of each text, made once."""
    if id(dataset) not in _rows:
        _rows[id(dataset)] = {text: i for i, text in enumerate(dataset.texts[0])}
    return _rows[id(dataset)]


def judged(dataset: Retrieval, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gains ``[queries, documents]``, the ideal DCG ``[queries]``, and the rows of documents and queries."""
    if id(dataset) in _judged:
        return _judged[id(dataset)]
    found, asked = ({text: i for i, text in enumerate(texts)} for texts in dataset.texts)
    column = {one: i for i, one in enumerate(dataset.documents)}
    gains = np.zeros((len(dataset.judgements), len(column)), dtype=np.float32)
    for row, relevance in enumerate(dataset.judgements.values()):
        for one, gain in relevance.items():
            if one in column:
                gains[row, column[one]] = max(gain, 0)
    best = -np.sort(-gains, axis=1)[:, :10]
    ideal = (best / np.log2(np.arange(2, 2 + best.shape[1]))).sum(1)
    kept = ideal > 0
    arrays = (
        gains[kept],
        ideal[kept],
        np.array([found[text] for text in dataset.documents.values()]),
        np.array([asked[dataset.queries[query]] for query in dataset.judgements])[kept],
    )
    _judged[id(dataset)] = tuple(torch.from_numpy(array).to(device) for array in arrays)
    return _judged[id(dataset)]


if __name__ == "__main__":
    main()
