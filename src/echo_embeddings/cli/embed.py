"""``embed``: a table of texts in, the same table with their vectors out, as often interrupted as it may be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_embeddings import EncoderOptions
from echo_embeddings.data.embed_table import EmbeddedTable, RowsDone, embed_table, rows_saved
from echo_embeddings.errors import InputError
from echo_embeddings.extras import require

from . import options, output
from .options import Role

if TYPE_CHECKING:
    from echo_embeddings import EchoEncoder
    from echo_embeddings.distributed.ray import EmbeddedFolder

__all__ = ["embed"]


class Format(str, Enum):
    """How a stream, or a file without a suffix, is read."""

    txt = "txt"
    jsonl = "jsonl"
    csv = "csv"


class Engine(str, Enum):
    """What spreads the work."""

    local = "local"
    ray = "ray"


class Split(str, Enum):
    """What a vector is made for, if not for a text."""

    passages = "passages"


class OnError(str, Enum):
    """What becomes of a row that cannot be embedded."""

    fail = "raise"
    skip = "skip"


def embed(  # noqa: PLR0913 - typer wants a parameter for each option
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A .txt (a line a text), .jsonl, .csv or .parquet file; - for stdin. On Ray: a folder of .parquet.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT", help="A .parquet file (all columns and 'embedding') or .npy. On Ray: a folder."
        ),
    ],
    *,
    column: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    format: Annotated[  # noqa: A002 - the option's name
        Format | None, typer.Option(help="Read INPUT as this; without it by its suffix, and stdin as jsonl.")
    ] = None,
    role: Annotated[
        Role, typer.Option(help="The template: what is searched in, or what is searched for.")
    ] = Role.document,
    split: Annotated[
        Split | None,
        typer.Option(help="Split each text into passages: a row of OUTPUT each, with its place in the text."),
    ] = None,
    late_chunking: Annotated[
        bool,
        typer.Option("--late-chunking", help="With --split: a passage has seen all of its text."),
    ] = False,
    model: options.Model = None,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    on_truncate: options.OnTruncate = options.Long.warn,
    dimensions: options.Dimensions = None,
    precision: Annotated[
        options.Precision,
        typer.Option(help="Of the vectors: float32, float16, int8 (the config needs ranges), or ubinary: bits."),
    ] = options.Precision.float32,
    checkpoint_rows: Annotated[
        int | None, typer.Option(help="Rows saved together; without it 1,024, on Ray 16,384: an output file.", min=1)
    ] = None,
    max_row_mb: Annotated[float, typer.Option(help="The most MiB of a row of INPUT, a line for example.")] = 64,
    max_decompressed_mb: Annotated[
        float | None,
        typer.Option(help="The most MiB that a compressed INPUT may become; without it 250 times its size."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, and overwrite OUTPUT.")] = False,
    engine: Annotated[
        Engine, typer.Option(help="Embed here, or a folder of .parquet files on the nodes of a Ray cluster.")
    ] = Engine.local,
    address: Annotated[
        str | None, typer.Option(help="The Ray cluster: HOST:PORT, or auto; without it RAY_ADDRESS, else this machine.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Workers on Ray; without it, as many as there is room for.", min=1)
    ] = None,
    num_cpus: Annotated[
        float | None, typer.Option(help="CPUs of a worker on Ray; without it 1 beside a GPU, else up to 4.", min=0)
    ] = None,
    num_gpus: Annotated[
        float | None, typer.Option(help="GPUs of a worker on Ray; without it 1 if there are any.", min=0)
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="On Ray: stop at a row that cannot be embedded, or list it in _skipped.jsonl.")
    ] = OnError.fail,
    json: options.Json = False,
) -> None:
    """Embed a file of texts, or texts from a pipe; or a folder, on Ray.

    Stopped by Ctrl-C, a crash or a power cut, the same command goes on where it stopped, and the result is the same.
    """
    job: dict[str, Any] = {
        "column": column,
        "role": role.value,
        "max_row_bytes": options.bytes_of("--max-row-mb", max_row_mb),
        "max_decompressed_bytes": None
        if max_decompressed_mb is None
        else options.bytes_of("--max-decompressed-mb", max_decompressed_mb),
        "restart": restart,
    }
    if checkpoint_rows is not None:
        job["checkpoint_rows"] = checkpoint_rows
    how = options.encoder_options(
        model,
        config,
        on_truncate.value,
        device=device,
        dtype=dtype,
        max_length=max_length,
        dimensions=dimensions,
        precision=precision.value,
    )
    of_ray = {"workers": workers, "num_cpus": num_cpus, "num_gpus": num_gpus, "on_error": on_error.value}
    if engine is Engine.ray:
        if format is not None:
            raise InputError(f"--format {format.value} is for files; --engine ray reads folders of .parquet files")
        if split is not None or late_chunking:
            name = "--late-chunking" if split is None else f"--split {split.value}"
            raise InputError(f"{name} works with --engine local only; split the texts before, or leave it out")
        _report_folder(_on_ray(source, target, how, address, job | of_ray), json=json)
        return
    _require_local(of_ray | {"address": address})
    job["format"] = None if format is None else format.value
    job |= {"split": None if split is None else split.value, "late_chunking": late_chunking}
    encoder = options.encoder_of(how)
    _report(_here(source, Path(target), encoder, job), encoder, json=json)


def _here(source: str, target: Path, encoder: EchoEncoder, job: dict[str, Any]) -> EmbeddedTable:
    if source == "-" and sys.stdin.isatty():
        output.note("reading texts from the terminal; end with Ctrl-D")
    with _going_on(target), output.progress(options.loading(encoder)) as bar:
        return embed_table(source, target, encoder, show_progress=lambda now: _show(bar, now), **job)


def _on_ray(source: str, target: str, how: EncoderOptions, address: str | None, more: dict[str, Any]) -> EmbeddedFolder:
    require("ray", "ray", "--engine ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    import ray

    from echo_embeddings.distributed.ray import embed_folder

    address = address or os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address or "local", **({} if address else {"include_dashboard": False}))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--address {address}: no Ray answers there ({error}); start one, or leave it out") from error
    try:
        return embed_folder(source, target, how, **more)
    finally:
        ray.shutdown()


def _require_local(given: Mapping[str, object]) -> None:
    """Refuse options that mean nothing here."""
    for name, value in given.items():
        if value not in (None, OnError.fail.value):
            raise InputError(f"--{name.replace('_', '-')} {value} is for --engine ray; leave it out, or add that")


def _report_folder(done: EmbeddedFolder, *, json: bool) -> None:
    if json:
        output.print_json(
            {
                "output": done.target,
                "files": done.files,
                "rows": done.rows,
                "resumed_from": done.resumed_from,
                "skipped": done.skipped,
                "dimension": done.dimension,
                "truncated": {"texts": done.truncated_texts, "tokens": done.truncated_tokens},
                "seconds": round(done.seconds, 3),
            }
        )
        return
    if done.truncated_texts:
        output.note(
            f"warning: {done.truncated_texts} text(s) were truncated; {done.truncated_tokens} tokens were not read. "
            "Split long texts, raise --max-length, or have all of each read with --on-truncate split"
        )
    if done.skipped:
        output.note(f"warning: {done.skipped} row(s) were left out; {done.target}/_skipped.jsonl says which, and why")
    resumed = f", {done.resumed_from} of them from an earlier run" if done.resumed_from else ""
    output.out.print(
        f"{done.target}: {done.rows} vectors of {done.dimension} dimensions in {done.files} files, in "
        f"{done.seconds:.1f} s{resumed}",
        soft_wrap=True,
    )


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
