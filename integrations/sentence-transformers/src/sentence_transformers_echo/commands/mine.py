"""The command ``mine``: add hard negatives to a file of pairs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from echo_embeddings.cli import options, output
from echo_embeddings.data.files import require_target
from echo_embeddings.errors import InputError

from . import importing_training

__all__ = ["mine"]


@dataclass(frozen=True)
class _Mined:
    """The facts that the command reports."""

    output: str
    pairs: int
    triples: int
    negatives: int
    model: str
    config: str
    seconds: float


def mine(  # noqa: PLR0913 - typer wants a parameter for each option
    source: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="A .jsonl, .csv or .parquet file of questions and their passages.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A .jsonl or .jsonl.gz file.")],
    *,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Give it twice: questions, passages; without it, 'anchor' and 'positive'."),
    ] = None,
    negatives: Annotated[int, typer.Option(help="How many a pair; pairs with fewer are dropped.", min=1)] = 1,
    margin: Annotated[
        float, typer.Option(help="How far below its passage's score a negative stays, as a part of it.", min=0, max=1)
    ] = 0.05,
    skip: Annotated[int, typer.Option(help="Nearest passages that are never taken.", min=0)] = 0,
    candidates: Annotated[int, typer.Option(help="Nearest passages that are looked at.", min=1)] = 50,
    limit: Annotated[int | None, typer.Option(help="This many pairs only, drawn at random.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="For the order of the pairs, and the draw.")] = 0,
    model: options.Model = None,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    restart: Annotated[bool, typer.Option("--restart", help="Overwrite OUTPUT.")] = False,
    json: options.Json = False,
) -> None:
    """Find passages for each question that look right but are not, to train on."""
    started = time.perf_counter()
    with importing_training("mining"):
        from sentence_transformers_echo.training import Data
        from sentence_transformers_echo.training import mine as run
        from sentence_transformers_echo.training.data import read
    require_target(source, target, (".jsonl", ".jsonl.gz"), overwrite=restart)
    if negatives > candidates:
        raise InputError(f"--negatives {negatives} cannot be found among --candidates {candidates}; look at more")
    data = Data(str(source), columns=tuple(column) if column else None, limit=limit)
    pairs = len(read(data, Path(), seed))  # a bad row raises its error before the model is loaded
    encoder = options.open_encoder(model, config, device=device, dtype=dtype, max_length=max_length)
    triples = run(
        data, target, encoder, negatives=negatives, margin=margin, skip=skip, candidates=candidates, seed=seed
    )
    seconds = round(time.perf_counter() - started, 3)
    facts = _Mined(str(target), pairs, triples, negatives, encoder.model_name, encoder.config.fingerprint(), seconds)
    _report(facts, json=json)


def _report(mined: _Mined, *, json: bool) -> None:
    if json:
        output.print_json(asdict(mined))
        return
    # Without ``columns`` a recipe uses a column "negative", but not "negative_1" and so on.
    columns = ", ".join(["anchor", "positive", *(f"negative_{i + 1}" for i in range(mined.negatives))])
    output.out.print(
        f"{mined.output}: {mined.triples} of {mined.pairs} pairs with {mined.negatives} hard negative(s) each in "
        f"{mined.seconds:.1f} s. In a recipe: columns: [{columns}]",
        markup=False,
        soft_wrap=True,
    )
