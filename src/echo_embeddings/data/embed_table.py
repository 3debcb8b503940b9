"""A table of texts in, the same table with their vectors out: a job that goes on where it was stopped.

Each checkpoint of rows is saved as soon as it is embedded; when the input ends, the checkpoints become the output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from echo_embeddings import notices
from echo_embeddings.errors import InputError
from echo_embeddings.extras import require
from echo_embeddings.types import require_chunking, require_encoder, require_whole

from .checkpoints import Checkpoints
from .files import locked, require_target, whole_file
from .job import Job, RowsDone, TableEncoder
from .reading import Bounds
from .split import ADDED, SplitTable
from .tables import Source, open_table, path_of

if TYPE_CHECKING:
    from .columns import Columns

__all__ = ["EmbeddedTable", "RowsDone", "TableEncoder", "embed_table", "rows_saved"]

_SUFFIXES = (".parquet", ".npy")


@dataclass(frozen=True)
class EmbeddedTable:
    """A finished job.

    Attributes:
        target: the file written.
        rows: how many rows it has.
        resumed_from: how many of them an earlier run had finished.
        dimension: length of a vector.
        truncated_texts: texts that were longer than the encoder's ``max_length``.
        truncated_tokens: tokens of them that were not read.
        seconds: how long this run took.
    """

    target: Path
    rows: int
    resumed_from: int
    dimension: int
    truncated_texts: int
    truncated_tokens: int
    seconds: float


def embed_table(  # noqa: PLR0913 - a table, an encoder, and how a job runs
    source: Source,
    target: str | os.PathLike[str],
    encoder: TableEncoder,
    *,
    column: str = "text",
    format: str | None = None,  # noqa: A002 - the word that users look for
    role: str = "document",
    checkpoint_rows: int = 1024,
    max_row_bytes: int = Bounds.row_bytes,
    max_decompressed_bytes: int | None = None,
    split: str | None = None,
    late_chunking: bool = False,
    restart: bool = False,
    show_progress: bool | Callable[[RowsDone], object] = False,
) -> EmbeddedTable:
    """Embed a table of texts.

    Stopped at any moment, the same call goes on where it stopped, and writes the same bytes as if it had never been
    stopped. Finished rows are kept in the folder ``TARGET.parts`` until the output is there. A call that goes on reads
    them again, to see that the input is the same, but does not embed them again.

    Args:
        source: a path (``.txt``, ``.jsonl``, ``.csv``, each also with ``.gz``; ``.parquet``); ``"-"`` for stdin; a
            stream in binary mode; or an iterable of dictionaries or of strings. It is read once, in order.
        target: a ``.parquet`` file, which gets all columns and ``embedding``, or a ``.npy`` file of the
            vectors ``[rows, dimension]``, in the encoder's precision.
        encoder: an ``EchoEncoder``.
        column: the column of texts.
        format: ``"txt"``, ``"jsonl"`` or ``"csv"``. ``None`` goes by the suffix of a path, and is jsonl for a stream.
        role: ``"document"`` for what is searched in, ``"query"`` for what is searched for.
        checkpoint_rows: rows that are embedded, and saved, together.
        max_row_bytes: the most bytes of a row of the input, a line for example.
        max_decompressed_bytes: the most bytes that a compressed input may become; ``None`` is 250 times its size, or
            1 MiB if that is more.
        split: ``"passages"`` splits each text into passages of about 120 words, at the ends of paragraphs and
            sentences, as an index does, and each is a row of the ``.parquet`` output: all columns of its row, with the
            passage in the column of texts, and beside them ``row`` (the number of that row, from 0), ``start`` and
            ``end`` (the passage is ``text[start:end]`` of that row's text). ``None`` embeds each text as a whole.
        late_chunking: with ``split``, read each text as a whole and pool its passages from that
            (``EchoEncoder.encode_chunks``).
        restart: begin anew, and overwrite the output.
        show_progress: show a progress bar, or a function that is called with a :class:`RowsDone` after each batch.

    Raises:
        InputError: the input or the output cannot be used, what is asked for does not go together, the input changed
            while it was embedded, a row has no text, is too long or has a value that parquet cannot hold, an unfinished
            run in ``TARGET.parts`` was of something else, or another process is writing the output.
        ConfigError: with ``late_chunking``, the encoder's config has no vectors for chunks.
        OutputError: a file cannot be written, as on a full disk; what is saved is kept.
        ImportError: pyarrow is missing, and one of the files is parquet.
    """
    require_encoder(encoder)
    started, shown = time.perf_counter(), Path(target).expanduser()
    target = _written_through(shown)
    if role not in ("document", "query"):
        raise InputError(f"role={role!r} is unknown; choose document or query")
    _require_splittable(split, role, target, late_chunking=late_chunking)
    if late_chunking:
        require_chunking(encoder)
    require_whole("checkpoint_rows", checkpoint_rows, InputError)
    bounds = Bounds(max_row_bytes, max_decompressed_bytes)
    require_target(path_of(source), target, _SUFFIXES, overwrite=True)
    if is_parquet := target.suffix.lower() == ".parquet":
        require("pyarrow", "parquet", "writing parquet")
    parts = _parts(target)
    with locked(target):
        Checkpoints(parts).sweep()
        Checkpoints.require_ours(parts)
        require_target(path_of(source), target, _SUFFIXES, overwrite=restart or parts.exists())
        table = open_table(source, column, format=format, bounds=bounds)
        columns = _columns(table.name) if is_parquet else None
        table = table if split is None else SplitTable(table)
        job = Job(table, encoder, role, checkpoint_rows, columns, split=split, late_chunking=late_chunking)
        rows = job.begin()
        checkpoints = Checkpoints.open(parts, job.manifest(), restart=restart)
        with _showing(show_progress, table.total) as show:
            job.run(rows, checkpoints, show)
        with checkpoints.writing(target), whole_file(target, work=parts) as path:
            job.write(path, checkpoints)
        checkpoints.remove()
    return EmbeddedTable(shown, job.rows, job.resumed, encoder.dimension, *job.truncated, time.perf_counter() - started)


def _require_splittable(split: str | None, role: str, target: Path, *, late_chunking: bool) -> None:
    if split not in (None, "passages"):
        raise InputError(f"split={split!r} is unknown; choose passages, or leave it out to embed each text as a whole")
    if split is None and late_chunking:
        raise InputError(
            "late_chunking (--late-chunking) makes a vector for each passage; add split='passages' (--split passages)"
        )
    if split is None:
        return
    if role != "document":
        raise InputError(f"role={role!r}: only documents are split; leave split (--split) out for queries")
    if target.suffix.lower() != ".parquet":
        raise InputError(
            f"{target}: split='passages' (--split passages) needs a .parquet output, whose columns {', '.join(ADDED)} "
            "say where each passage stands; a .npy file has vectors alone"
        )


def rows_saved(target: str | os.PathLike[str]) -> int:
    """Rows that an unfinished :func:`embed_table` has saved for an output, so that the next run need not embed them."""
    return Checkpoints.found(_parts(_written_through(Path(target).expanduser()))).rows


@contextmanager
def _showing(show: bool | Callable[[RowsDone], object], total: int | None) -> Iterator[Callable[[RowsDone], object]]:  # noqa: FBT001
    if callable(show):
        yield show
    elif not show or not notices.allows_bars():
        yield lambda _: None
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="row", desc="embedding") as bar:

            def update(now: RowsDone) -> None:
                bar.initial = now.resumed  # these do not count for the rate
                bar.update(now.done - bar.n)

            yield update


def _columns(name: str) -> Columns:
    from .columns import Columns

    return Columns(name)


def _written_through(target: Path) -> Path:
    """The file that is written: what a link points to. Checkpoints and lock stand beside it."""
    if not target.is_symlink():
        return target
    try:
        return target.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{target} is a link that leads nowhere ({error}); choose another output") from error


def _parts(target: Path) -> Path:
    return target.with_name(f"{target.name}.parts")
