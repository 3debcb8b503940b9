"""``embed``: a table of texts in, the same table with their vectors out, as often interrupted as it may be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from echo_embeddings import __version__
from echo_embeddings.data.checkpoints import Shards
from echo_embeddings.data.files import digest, require_target, whole_file
from echo_embeddings.data.tables import Table, open_table
from echo_embeddings.extras import require

from . import options, output
from .options import Role

if TYPE_CHECKING:
    from echo_embeddings import EchoEncoder

__all__ = ["embed"]


def embed(  # noqa: PLR0913 - typer wants a parameter for each option
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A .txt (a line a text), .jsonl, .csv or .parquet file.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="A .parquet file (all columns and 'embedding') or .npy.")
    ],
    *,
    column: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    role: Annotated[
        Role, typer.Option(help="The template: what is searched in, or what is searched for.")
    ] = Role.document,
    model: options.Model = None,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    dimensions: options.Dimensions = None,
    window: Annotated[int, typer.Option(help="Rows computed, and saved, together.", min=1)] = 1024,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, and overwrite OUTPUT.")] = False,
    json: options.Json = False,
) -> None:
    """Embed a file of texts.

    Stopped by Ctrl-C, a crash or a power cut, the same command goes on where it stopped, and the result is the same.
    """
    started = time.perf_counter()
    parts = target.with_name(f"{target.name}.parts")
    require_target(source, target, (".parquet", ".npy"), overwrite=restart or parts.exists())
    table = open_table(source, column)
    rows = table.count()
    schema = _schema(table, target)
    encoder = options.open_encoder(
        model, config, device=device, dtype=dtype, max_length=max_length, dimensions=dimensions
    )
    manifest = {
        "input": digest(source),
        "column": column,
        "role": role.value,
        "model": encoder.model_name,
        "config": encoder.config.fingerprint(),
        "precision": encoder.precision,
        "window": window,
        "version": __version__,
    }
    shards = Shards.open(parts, manifest, rows=rows, restart=restart)
    before = shards.rows_saved
    with _going_on(shards):
        _compute(table, shards, encoder, role)
        _assemble(target, table, schema, shards)
    shards.remove()
    _report(target, shards, encoder, before, time.perf_counter() - started, json=json)


def _schema(table: Table, target: Path) -> Any:
    """What the input's columns will be in the output; ``None`` for .npy, which has none."""
    if target.suffix.lower() == ".npy":
        return None
    require("pyarrow", "parquet", "writing parquet")
    from echo_embeddings.data.parquet import output_schema

    return output_schema(table)


def _compute(table: Table, shards: Shards, encoder: EchoEncoder, role: Role) -> None:
    texts = table.texts()
    with output.progress("embedding", shards.rows, shards.rows_saved) as advance:
        for number in range(shards.count):
            batch = list(islice(texts, shards.window))
            if not shards.has(number):
                shards.save(number, options.encode(encoder, batch, role, advance))


def _assemble(target: Path, table: Table, schema: Any, shards: Shards) -> None:
    with whole_file(target, work=shards.folder) as path:
        if schema is None:
            with path.open("wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (shards.rows, shards.dimension)}
                np.lib.format.write_array_header_1_0(file, header)
                for vectors in shards.windows():
                    file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        else:
            from echo_embeddings.data.parquet import write_parquet

            write_parquet(path, table, schema, shards)


@contextmanager
def _going_on(shards: Shards) -> Iterator[None]:
    """Say after Ctrl-C what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        output.note(
            f"{shards.rows_saved} of {shards.rows} rows are saved in {shards.folder}; run the same command to go on"
        )
        raise


def _report(target: Path, shards: Shards, encoder: EchoEncoder, before: int, seconds: float, *, json: bool) -> None:
    options.report_truncated(encoder)
    if json:
        output.print_json(
            {
                "output": str(target),
                "rows": shards.rows,
                "resumed_from": before,
                "dimension": encoder.dimension,
                "model": encoder.model_name,
                "config": encoder.config.fingerprint(),
                "truncated": {"texts": encoder.truncated.texts, "tokens": encoder.truncated.tokens},
                "seconds": round(seconds, 3),
            }
        )
        return
    resumed = f", {before} of them from an earlier run" if before else ""
    output.out.print(
        f"{target}: {shards.rows} vectors of {encoder.dimension} dimensions in {seconds:.1f} s{resumed}",
        markup=False,
        soft_wrap=True,
    )
