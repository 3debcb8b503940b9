"""``embed``: a table of texts in, the same table with their vectors out, as often interrupted as it may be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_embeddings.data.embed_table import EmbeddedTable, RowsDone, embed_table, rows_saved

from . import options, output
from .options import Role

if TYPE_CHECKING:
    from echo_embeddings import EchoEncoder

__all__ = ["embed"]


class Format(str, Enum):
    """How a stream, or a file without a suffix, is read."""

    txt = "txt"
    jsonl = "jsonl"
    csv = "csv"


def embed(  # noqa: PLR0913 - typer wants a parameter for each option
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="A .txt (a line a text), .jsonl, .csv or .parquet file; - for stdin."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="A .parquet file (all columns and 'embedding') or .npy.")
    ],
    *,
    column: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    format: Annotated[  # noqa: A002 - the option's name
        Format | None, typer.Option(help="Read INPUT as this; without it by its suffix, and stdin as jsonl.")
    ] = None,
    role: Annotated[
        Role, typer.Option(help="The template: what is searched in, or what is searched for.")
    ] = Role.document,
    model: options.Model = None,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    dimensions: options.Dimensions = None,
    precision: Annotated[
        options.Precision,
        typer.Option(help="Of the vectors: float32, float16, int8 (the config needs ranges), or ubinary: bits."),
    ] = options.Precision.float32,
    checkpoint_rows: Annotated[int, typer.Option(help="Rows computed, and saved, together.", min=1)] = 1024,
    max_row_mb: Annotated[float, typer.Option(help="The most MiB of a row of INPUT, a line for example.")] = 64,
    max_decompressed_mb: Annotated[
        float | None,
        typer.Option(help="The most MiB that a compressed INPUT may become; without it 250 times its size."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, and overwrite OUTPUT.")] = False,
    json: options.Json = False,
) -> None:
    """Embed a file of texts, or texts from a pipe.

    Stopped by Ctrl-C, a crash or a power cut, the same command goes on where it stopped, and the result is the same.
    """
    encoder = options.make_encoder(
        model,
        config,
        device=device,
        dtype=dtype,
        max_length=max_length,
        dimensions=dimensions,
        precision=precision.value,
    )
    if source == "-" and sys.stdin.isatty():
        output.note("reading texts from the terminal; end with Ctrl-D")
    with _going_on(target), output.progress(options.loading(encoder)) as bar:
        done = embed_table(
            source,
            target,
            encoder,
            column=column,
            format=None if format is None else format.value,
            role=role.value,
            checkpoint_rows=checkpoint_rows,
            max_row_bytes=int(max_row_mb * 2**20),
            max_decompressed_bytes=None if max_decompressed_mb is None else int(max_decompressed_mb * 2**20),
            restart=restart,
            show_progress=lambda now: _show(bar, now),
        )
    _report(done, encoder, json=json)


def _show(bar: output.Bar, now: RowsDone) -> None:
    show = bar.skip if now.done == now.resumed else bar.show
    show("embedding", now.done, now.total)


@contextmanager
def _going_on(target: Path) -> Iterator[None]:
    """Say after Ctrl-C, or an error that does not say it, what is kept and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        parts = f"{target.resolve() if target.is_symlink() else target}.parts"
        if parts not in str(error) and (rows := rows_saved(target)):
            output.note(f"{rows} rows are saved in {parts}; run the same command to go on")
        raise


def _report(done: EmbeddedTable, encoder: EchoEncoder, *, json: bool) -> None:
    options.report_truncated(encoder, done.truncated_texts, done.truncated_tokens)
    target = os.fsencode(done.target).decode("utf-8", "backslashreplace")  # a name that is not UTF-8 cannot be printed
    if json:
        output.print_json(
            {
                "output": target,
                "rows": done.rows,
                "resumed_from": done.resumed_from,
                "dimension": done.dimension,
                "model": encoder.model_name,
                "config": encoder.config.fingerprint(),
                "truncated": {"texts": done.truncated_texts, "tokens": done.truncated_tokens},
                "seconds": round(done.seconds, 3),
            }
        )
        return
    resumed = f", {done.resumed_from} of them from an earlier run" if done.resumed_from else ""
    output.out.print(
        f"{target}: {done.rows} vectors of {done.dimension} dimensions in {done.seconds:.1f} s{resumed}",
        markup=False,
        soft_wrap=True,
    )
