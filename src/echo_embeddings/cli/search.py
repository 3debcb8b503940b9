"""``search``: questions to an index, with the model and the config that the index was made with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from echo_embeddings import EchoConfig
from echo_embeddings.errors import InputError
from echo_embeddings.search import Hit, Index

from . import options, output

__all__ = ["search"]

_PROMPT = "Ask (an empty line ends): "


def search(
    folder: Annotated[Path, typer.Argument(metavar="INDEX", help="What [bold]index[/bold] wrote.")],
    question: Annotated[
        str | None,
        typer.Argument(
            help="In plain words; - reads questions from standard input, one a line. Without it you are asked for some."
        ),
    ] = None,
    *,
    k: Annotated[int, typer.Option("-k", help="How many passages.", min=1)] = 5,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    json: options.Json = False,
) -> None:
    """Print the passages of an index that are nearest to a question, or to each of several."""
    if question is None and not _is_terminal():
        raise typer.BadParameter("give a question, or - to read questions from standard input", param_hint="QUESTION")
    index = Index.load(folder)
    options.require_model(folder, index.manifest, model)
    made_with = index.manifest
    encoder = options.open_encoder(
        model or made_with.model, index.config, made_with.on_truncate, device=device, dtype=dtype
    )
    index.encoder = encoder
    several = question in (None, "-")
    if not json:
        output.note(_about_scores(index.config))
    for one in _asked() if question is None else _lines() if question == "-" else [question]:
        hits = index.search(encoder.encode_queries(_utf8(one)), k)
        if json and several:
            output.print_json({"question": one, "hits": [asdict(hit) for hit in hits]}, indent=None)
        elif json:
            output.print_json([asdict(hit) for hit in hits])
        else:
            _show(one if question == "-" else None, hits)
    options.report_truncated(encoder, encoder.truncated.texts, encoder.truncated.tokens)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _asked() -> Iterator[str]:
    """Questions that a person types, until an empty line or the end of the input (Ctrl-D)."""
    with suppress(ImportError):
        import readline  # noqa: F401 - the keys that move in a line, and in those before
    while question := _typed().strip():
        yield question


def _typed() -> str:
    try:
        if sys.stdout.isatty():
            return input(_PROMPT)
        output.err.print(_PROMPT, end="")
        return sys.stdin.readline()
    except EOFError:
        return ""


def _lines() -> Iterator[str]:
    """Questions from standard input; each is answered before the next is read. Empty lines are no questions."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            question = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"standard input, line {number}, is not UTF-8 ({error.reason})") from error
        if question:
            yield question


def _utf8(question: str) -> str:
    try:
        question.encode()
    except UnicodeEncodeError as error:  # what is typed in another encoding
        raise InputError(f"the question is not UTF-8 ({error.reason})") from error
    return question


def _about_scores(config: EchoConfig) -> str:
    """What the numbers mean, as far as it is known."""
    said = "A score is the cosine of question and passage. "
    if config.fingerprint() == EchoConfig.preset("default").fingerprint():
        return said + "With this config a good hit lies at about 0.4, and unlike texts at 0.15 to 0.26."
    return said + "How high that of a good hit is depends on model and config; compare the scores of one question."


def _show(question: str | None, hits: list[Hit]) -> None:
    if question is not None:
        output.out.print(Text(output.printable(question), style="bold underline"), soft_wrap=True)
    for hit in hits:
        source = output.printable(hit.source)
        head = Text.assemble((f"{hit.rank}.", "bold"), f"  {hit.score:.3f}  ", (source, "cyan"))
        output.out.print(head, soft_wrap=True)
        output.out.print(Padding(Text(output.printable(hit.passage, keep="\n\t")), (0, 0, 1, 4)))
