"""``compare``: what echo is worth on data of one's own, beside classical embeddings of the same model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from echo_embeddings import evaluation
from echo_embeddings.errors import InputError
from echo_embeddings.evaluation.comparison import preset_configs, usual_presets

from . import options, output

__all__ = ["compare"]


def compare(
    data: Annotated[Path, typer.Argument(help="A .tsv or .csv with score, sentence1, sentence2; or a BEIR folder.")],
    *,
    presets: Annotated[
        str | None,
        typer.Option(
            help="Names with commas between; saved is the model's own config; default@256 keeps 256 dimensions."
        ),
    ] = None,
    yardstick: Annotated[
        list[str] | None, typer.Option(help="A model of sentence-transformers to score beside; can be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="This many pairs or queries only, for a quick look.", min=2)] = None,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    json: options.Json = False,
) -> None:
    """Compare presets on your own data: quality and time for each text."""
    encoder = options.make_encoder(model, device=device, dtype=dtype)
    # The usual ones are asked for only if they are needed: a hub may have to say which config is saved with the model.
    names = usual_presets(encoder) if presets is None else [name.strip() for name in presets.split(",") if name.strip()]
    if not names:
        raise InputError(f"--presets {presets!r} names none; try --presets {','.join(usual_presets(encoder))}")
    configs = preset_configs(names, encoder)  # what cannot work is said before the data is read
    if max_length is not None:
        configs = {name: config.replace(max_length=max_length) for name, config in configs.items()}
    dataset = evaluation.open_dataset(data, limit)
    with output.progress(options.loading(encoder)) as bar:
        scores = evaluation.compare(encoder, dataset, configs, yardsticks=yardstick or (), show_progress=bar.show)
    if json:
        output.print_json({"data": str(data), "size": dataset.size, "results": [asdict(score) for score in scores]})
    else:
        _show(scores, f"{encoder.model_name} on {dataset.size}", dataset.metric)


def _show(scores: list[evaluation.Score], title: str, metric: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("preset")
    for column in (f"{metric} x100", "ms/text", "dim", "truncated"):
        table.add_column(column, justify="right")
    best = max((score.score for score in scores if score.score is not None), default=None)
    for score in scores:
        value = "-" if score.score is None else f"{score.score:.2f}"
        cells = (value, f"{score.ms_per_text:.1f}", str(score.dimension), str(score.truncated))
        table.add_row(score.preset, *cells, style="bold" if score.score is not None and score.score == best else None)
    output.out.print(table)
