"""``tune``: the best config of any model for one's own texts, without labels."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from echo_embeddings import EncoderOptions, tuning
from echo_embeddings.data.files import whole_folder
from echo_embeddings.data.passages import read_passages
from echo_embeddings.data.tables import open_table
from echo_embeddings.errors import ConfigError, InputError
from echo_embeddings.evaluation import open_dataset
from echo_embeddings.text.tokenizer import whole_characters
from echo_embeddings.tuning.page import page, words_of, words_of_gain

from . import options, output

__all__ = ["tune"]


def tune(  # noqa: PLR0913 - typer wants a parameter for each option
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file; builtin for the built-in model.")],
    texts: Annotated[
        Path, typer.Argument(help="Texts like those to come: a .txt, .jsonl, .csv or .parquet file, or a folder.")
    ],
    *,
    target: Annotated[Path, typer.Option("--output", "-o", help="The folder for the tuned model; it must be new.")],
    column: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Labels that decide: a table of score,sentence1,sentence2 or of anchor,positive, or a folder in "
            "BEIR's layout. Half of them is held out and says what was gained."
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Begin no further run of the model after so many.")] = 5.0,
    max_cost: Annotated[float, typer.Option(help="The most that an embedding may cost, in classical passes.")] = 1.1,
    late_chunking: Annotated[
        bool, typer.Option("--late-chunking", help="Leave out configs that have no vectors for chunks in context.")
    ] = False,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    json: options.Json = False,
) -> None:
    """Choose template, layers, transform and words for a model, from texts; labels are not needed.

    The folder is a model for every loader. tuned.json in it lists what was tried, tuned.html shows it.
    """
    target = target.expanduser()
    if target.exists():
        raise InputError(f"{target} exists; choose a folder that does not")
    if not target.absolute().parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.absolute().parent}; make it first")
    if dtype == "int8":
        raise ConfigError(
            "--dtype int8: the model is saved, and weights in int8 cannot be. Tune without it, and give it where the "
            "folder is used"
        )
    # From here on nobody else writes the folder, and whether it can be written is known before the model runs.
    with whole_folder(target, keep=lambda _: True) as unfinished:
        read = _read(texts.expanduser(), column)
        labels = None if pairs is None else open_dataset(pairs)
        options.quiet()
        named = None if model == "builtin" else options.where(model)
        with output.progress(f"loading {model}") as bar:
            tuned = tuning.tune(
                named,
                read,
                pairs=labels,
                minutes=minutes,
                max_cost=max_cost,
                late_chunking=late_chunking,
                options=EncoderOptions(device=device, dtype=dtype, max_length=max_length, on_truncate="ignore"),
                show_progress=bar.show,
            )
        about = _saved(tuned, unfinished, model)
    if json:
        about["tried"] = len(tuned.tried)
        chosen = _row(tuned.best, tuned.names)
        output.print_json({"output": str(target), "chosen": chosen, "skipped": _skipped(tuned)} | about)
        return
    _show(tuned)
    output.note(f"chosen: {words_of(tuned.best)}")
    if tuned.gain is not None:
        output.note(words_of_gain(tuned.gain))
    for name, why in _skipped(tuned).items():
        output.note(f"not tried: {name}: {why}")
    output.note(f"wrote {target}; use it as EchoEncoder({str(target)!r})")


def _saved(tuned: tuning.Tuned, folder: Path, model: str) -> dict[str, Any]:
    """Write the model, and beside it what was tried, as JSON and as a page; returns the JSON."""
    tuned.encoder.save_pretrained(folder)
    about: dict[str, Any] = {"model": model, "tried": [_row(one, tuned.names) for one in tuned.tried]}
    if tuned.gain is not None:
        about["gain"] = asdict(tuned.gain)
    content = json_.dumps(about, indent=1, allow_nan=False)
    (folder / "tuned.json").write_text(content + "\n", encoding="utf-8")
    (folder / "tuned.html").write_text(whole_characters(page(tuned, model)), encoding="utf-8")
    return about


def _read(path: Path, column: str) -> list[str]:
    if path.is_dir():
        passages, skipped = read_passages(path)
        if skipped:
            output.note(f"skipped {len(skipped)} files; the first: {skipped[0]}")
        return [passage.text for passage in passages]
    return list(open_table(path, column).texts())


def _skipped(tuned: tuning.Tuned) -> dict[str, str]:
    return {f"{one.name} from {one.start:g}" if one.start else one.name: why for one, why in tuned.skipped.items()}


def _row(one: tuning.Tried, names: tuple[str, ...]) -> dict[str, Any]:
    candidate = asdict(one.candidate)
    of = candidate.pop("of")
    numbers = {name.replace(" ", "_"): round(value, 4) for name, value in zip(names, one.numbers, strict=True)}
    known = {"pass": of["name"], "pooling": of["pooling"], "words": one.words, "score": round(one.score, 4)}
    return known | candidate | numbers


def _show(tuned: tuning.Tuned) -> None:
    table = Table(title=f"the best of {len(tuned.tried)}", title_justify="left")
    for column in ("pass", "start", "exit", "transform"):
        table.add_column(column)
    for column in ("cost", *tuned.names, "score"):
        table.add_column(column, justify="right")
    for one in [one for one in tuned.tried if not one.words][:8]:
        of = one.candidate
        numbers = (f"{of.cost:.2f}", *(f"{number:.3f}" for number in one.numbers), f"{one.score:.3f}")
        table.add_row(of.of.name, str(of.start), f"{of.exit}{' + norm' * of.final_norm}", of.transform, *numbers)
    output.out.print(table)
