"""``compare``: what echo is worth on data of one's own, beside classical embeddings of the same model."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.errors import InputError
from echo_embeddings.evaluation.datasets import Dataset, open_dataset

from . import options, output
from .options import Role

__all__ = ["compare"]


@dataclass(frozen=True)
class _Result:
    """One line of the table."""

    preset: str
    metric: str
    score: float | None
    ms_per_text: float
    dimension: int
    truncated: int


def compare(
    data: Annotated[Path, typer.Argument(help="A .tsv or .csv with score, sentence1, sentence2; or a BEIR folder.")],
    *,
    presets: Annotated[
        str | None, typer.Option(help="Names with commas between; default@256 keeps 256 dimensions.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="This many pairs or queries only, for a quick look.", min=2)] = None,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    json: options.Json = False,
) -> None:
    """Compare presets on your own data: quality and time for each text."""
    # What is fitted or trained in "default" and "zero-shot" is the built-in model's.
    usual = "default,zero-shot,echo,classical,prompt-eol" if model is None else "echo,late-echo,classical,prompt-eol"
    names = list(dict.fromkeys(name.strip() for name in (presets or usual).split(",") if name.strip()))
    if not names:
        raise InputError(f"--presets {presets!r} names none; try --presets {usual}")
    configs = [_config(name) for name in names]
    if max_length is not None:
        configs = [config.replace(max_length=max_length) for config in configs]
    for config in configs:
        EchoEncoder(options.where(model), config)  # loads nothing, but says what cannot work before the first minutes
    dataset = open_dataset(data, limit)
    encoder = options.open_encoder(model, configs[0], device=device, dtype=dtype)
    results = []
    for name, config in zip(names, configs, strict=True):
        # Loaded again only where other layers run, and then after the one before has been let go.
        encoder = encoder.with_config(config)
        results.append(_run(name, encoder, dataset))
    if json:
        output.print_json({"data": str(data), "size": dataset.size, "results": [asdict(result) for result in results]})
    else:
        _show(dataset, results, encoder.model_name)


def _config(name: str) -> EchoConfig:
    """The preset before the ``@``, with as many dimensions as stand behind it."""
    preset, at, dimensions = name.partition("@")
    if at and not dimensions.isdecimal():
        raise InputError(f"--presets {name}: behind @ goes a number of dimensions, such as {preset}@256")
    return EchoConfig.preset(preset).truncated(int(dimensions) if at else None)


def _run(name: str, encoder: EchoEncoder, dataset: Dataset) -> _Result:
    documents, queries = dataset.texts
    encoder.encode_documents("warm")  # the first pass pays for what is set up once
    with output.progress(name, len(documents) + len(queries)) as advance:
        started = time.perf_counter()
        found = options.encode(encoder, documents, Role.document, advance)
        asked = options.encode(encoder, queries, Role.query, advance)
        seconds = time.perf_counter() - started
    score = dataset.score(found, asked)
    return _Result(
        preset=name,
        metric=f"{dataset.metric} x100",
        score=None if math.isnan(score) else round(score, 2),
        ms_per_text=round(1000 * seconds / (len(documents) + len(queries)), 2),
        dimension=encoder.dimension,
        truncated=encoder.truncated.texts,
    )


def _show(dataset: Dataset, results: list[_Result], model: str) -> None:
    table = Table(title=f"{model} on {dataset.size}", title_justify="left")
    table.add_column("preset")
    for column in (f"{dataset.metric} x100", "ms/text", "dim", "cut texts"):
        table.add_column(column, justify="right")
    best = max((result.score for result in results if result.score is not None), default=None)
    for result in results:
        score = "-" if result.score is None else f"{result.score:.2f}"
        cells = (score, f"{result.ms_per_text:.1f}", str(result.dimension), str(result.truncated))
        table.add_row(
            result.preset, *cells, style="bold" if result.score is not None and result.score == best else None
        )
    output.out.print(table)
