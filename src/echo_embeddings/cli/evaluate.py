"""``evaluate``: a model judged by mteb, on its own tasks or on data of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from echo_embeddings.errors import InputError

from . import options, output
from .options import Role

if TYPE_CHECKING:
    from echo_embeddings.evaluation.mteb import Evaluation

__all__ = ["evaluate"]

#: What stands for the built-in model, because this command takes a model first.
_BUILTIN = "builtin"


def evaluate(  # noqa: PLR0913 - typer wants a parameter for each option
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help=f"Hub id, folder or .gguf file of a causal model; or {_BUILTIN}."),
    ],
    named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASKS...", help="Files and folders of data, and names of tasks and benchmarks of mteb."
        ),
    ] = None,
    *,
    tasks: Annotated[
        list[str] | None,
        typer.Option(help='A task or benchmark of mteb, such as "MTEB(eng, v2)"; can be repeated.'),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="A folder, of which every data set is a task; can be repeated.")
    ] = None,
    target: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of results; the same command goes on from there.")
    ] = Path("evaluation"),
    yardstick: Annotated[
        list[str] | None, typer.Option(help="A model of sentence-transformers to score beside; can be repeated.")
    ] = None,
    role: Annotated[
        Role, typer.Option(help="The template for texts that are neither queries nor documents, as in STS.")
    ] = Role.document,
    instruction: options.Instruction = None,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    on_truncate: options.OnTruncate = options.Long.warn,
    dimensions: options.Dimensions = None,
    json: options.Json = False,
) -> None:
    """Judge a model with mteb's evaluators, on its tasks or on your own data.

    Stopped by Ctrl-C, a crash or a power cut, the same command goes on where it stopped, and the scores are the same.
    """
    # Importing it takes seconds, and says what to install where mteb is missing.
    from echo_embeddings.evaluation.mteb import evaluate as judge

    wanted = [*(named or ()), *(tasks or ()), *(data or ())]
    if not wanted:
        raise InputError(
            f"nothing to evaluate {model} on: name a file, a folder, or a task or benchmark of mteb, such as "
            f'echo-embeddings evaluate {model} "MTEB(eng, v2)"'
        )
    encoder = options.make_encoder(
        None if model == _BUILTIN else model,
        config,
        on_truncate.value,
        device=device,
        dtype=dtype,
        max_length=max_length,
        dimensions=dimensions,
    )
    with _going_on(target), output.progress(options.loading(encoder)) as bar:
        found = judge(
            encoder,
            wanted,
            output=target,
            yardsticks=yardstick or (),
            role=role.value,
            instructions=instruction,
            show_progress=bar.show,
        )
    options.report_truncated(encoder, encoder.truncated.texts, encoder.truncated.tokens)
    if json:
        output.print_json(found.to_dict())
    else:
        _show(found, target)
    for task, why in found.failed.items():
        output.note(f"{task} has no score: {why}")
    if found.failed:
        raise typer.Exit(1)


@contextmanager
def _going_on(target: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if target.is_dir():
            output.note(f"what is done is kept in {target}; run the same command to go on")
        raise


def _show(found: Evaluation, target: Path) -> None:
    table = Table(title=f"Main scores x100; all of them are in {target}", title_justify="left")
    for column in ("task", "kind", "score"):
        table.add_column(column)
    for model in found.models:
        table.add_column(model, justify="right")
    scores = {(score.model, score.task): score.score for score in found.scores}
    for score in found.scores:
        if score.model == found.models[0]:
            cells = [_cell(scores.get((model, score.task))) for model in found.models]
            table.add_row(score.task, score.kind, score.metric, *cells)
    if len(found.scores) > len(found.models):
        table.add_section()
        means = {model: found.means(model) for model in found.models}
        for name in next(iter(means.values())):
            label = {"tasks": "mean of all tasks", "kinds": "mean of the kinds"}.get(name, f"mean of {name}")
            table.add_row(label, "", "", *(_cell(means[model].get(name)) for model in found.models), style="bold")
    output.out.print(table)


def _cell(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"
