"""A table of texts in, the same table with their vectors out: a job that goes on where it was stopped.

The input is read once. Each checkpoint of rows is saved as soon as it is embedded; when the input ends, the checkpoints
become the output. An encoder is whatever fits :class:`TableEncoder`.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from echo_embeddings.errors import InputError, TruncationWarning
from echo_embeddings.extras import require
from echo_embeddings.types import Vectors

from .checkpoints import Checkpoint, Checkpoints
from .files import require_target, whole_file
from .tables import Chunk, Source, Table, open_table, path_of

__all__ = ["EmbeddedTable", "RowsDone", "TableEncoder", "embed_table", "rows_saved"]

_SUFFIXES = (".parquet", ".npy")


class _Fingerprinted(Protocol):
    def fingerprint(self) -> str: ...


class _Counted(Protocol):
    @property
    def texts(self) -> int: ...

    @property
    def tokens(self) -> int: ...


class TableEncoder(Protocol):
    """What a job needs of an encoder. ``EchoEncoder`` has it."""

    @property
    def model_name(self) -> str:
        """The model's name."""

    @property
    def config(self) -> _Fingerprinted:
        """What defines a vector besides the weights."""

    @property
    def dimension(self) -> int:
        """Length of a vector; loads the model."""

    @property
    def precision(self) -> str:
        """Device and dtype, such as ``"cpu torch.bfloat16"``: vectors of one and the other must not be mixed."""

    @property
    def truncated(self) -> _Counted:
        """Texts truncated, and tokens not read, since the encoder was made."""

    def fingerprint(self) -> str:
        """Another one wherever vectors may be others."""

    def encode_documents(self, texts: list[str], *, show_progress: Callable[[int], object]) -> Vectors:
        """Vectors ``[n, dimension]`` of what is searched in; ``show_progress`` is told the texts of each batch."""

    def encode_queries(self, texts: list[str], *, show_progress: Callable[[int], object]) -> Vectors:
        """The same for what is searched for."""


@dataclass(frozen=True)
class RowsDone:
    """How far a job is.

    Attributes:
        done: rows that are finished, in this run and earlier ones.
        resumed: how many of them an earlier run had finished.
        total: rows of the input; ``None`` where that is not known before the input ends.
    """

    done: int
    resumed: int
    total: int | None


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


def embed_table(
    source: Source,
    target: str | os.PathLike[str],
    encoder: TableEncoder,
    *,
    column: str = "text",
    format: str | None = None,  # noqa: A002 - the word that users look for
    role: str = "document",
    checkpoint_rows: int = 1024,
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
        target: a ``.parquet`` file, which gets all columns and ``embedding``, or a ``.npy`` file of float32
            ``[rows, dimension]``.
        encoder: an ``EchoEncoder``.
        column: the column of texts.
        format: ``"txt"``, ``"jsonl"`` or ``"csv"``. ``None`` goes by the suffix of a path, and is jsonl for a stream.
        role: ``"document"`` for what is searched in, ``"query"`` for what is searched for.
        checkpoint_rows: rows that are embedded, and saved, together.
        restart: begin anew, and overwrite the output.
        show_progress: show a progress bar, or a function that is called with a :class:`RowsDone` after each batch.

    Raises:
        InputError: the input or the output cannot be used, a row has no text or a value that parquet cannot hold, or an
            unfinished run in ``TARGET.parts`` was of something else.
        ImportError: pyarrow is missing, and one of the files is parquet.
    """
    started, target = time.perf_counter(), Path(target).expanduser()
    if role not in ("document", "query"):
        raise InputError(f"role={role!r} is unknown; choose document or query")
    if checkpoint_rows < 1:
        raise InputError(f"checkpoint_rows={checkpoint_rows}: give at least 1 row")
    parts = _parts(target)
    require_target(path_of(source), target, _SUFFIXES, overwrite=restart or parts.exists())
    is_parquet = target.suffix.lower() == ".parquet"
    if is_parquet:
        require("pyarrow", "parquet", "writing parquet")
    table = open_table(source, column, format=format)
    job = _Job(table, encoder, role, checkpoint_rows, _Columns(table.name) if is_parquet else None)
    chunks = job.begin()
    checkpoints = Checkpoints.open(parts, job.manifest(), restart=restart)
    with _showing(show_progress, table.total) as show:
        job.run(chunks, checkpoints, show)
    with whole_file(target, work=parts) as path:
        job.write(path, checkpoints)
    checkpoints.remove()
    return EmbeddedTable(
        target, job.rows, job.resumed, encoder.dimension, *job.truncated, time.perf_counter() - started
    )


def rows_saved(target: str | os.PathLike[str]) -> int:
    """Rows that an unfinished :func:`embed_table` has saved for an output, so that the next run need not embed them."""
    return Checkpoints(_parts(Path(target).expanduser())).rows


class _Columns:
    """The columns of all rows so far, on their way to parquet."""

    def __init__(self, name: str) -> None:
        self._name, self._schema = name, None

    def add(self, table: Any, first: int) -> str:
        """Take the columns of the rows that follow, and give their digest."""
        from .columns import digest, merged

        where = f"{self._name}, rows {first} to {first + table.num_rows - 1}"
        self._schema = merged(self._schema, table, where)
        return digest(table)

    def write(self, path: Path, dimension: int, saved: Iterator[tuple[Vectors, bytes]]) -> None:
        """Write the output from what checkpoints have saved."""
        from .columns import fitted, from_bytes
        from .parquet import write_parquet

        tables = ((fitted(from_bytes(columns), self._schema, self._name), vectors) for vectors, columns in saved)
        write_parquet(path, self._schema, dimension, tables)

    @staticmethod
    def as_bytes(table: Any) -> bytes:
        """The columns of a checkpoint as they are saved."""
        from .columns import as_bytes

        return as_bytes(table)


class _Job:
    def __init__(
        self, table: Table, encoder: TableEncoder, role: str, checkpoint_rows: int, columns: _Columns | None
    ) -> None:
        self._table, self._encoder, self._role, self._size = table, encoder, role, checkpoint_rows
        self._columns = columns
        self.rows = self.resumed = 0
        self.truncated = (0, 0)

    def begin(self) -> Iterator[Chunk]:
        """Read the first rows, so that a wrong column or an empty file is said before the model is loaded."""
        chunks = self._table.chunks(self._size, columns=self._columns is not None)
        first = next(chunks, None)
        if first is None:
            raise InputError(f"{self._table.name} is empty: there is nothing to embed")
        return chain([first], chunks)

    def manifest(self) -> dict[str, Any]:
        """What the vectors are made with; loads the model, so that nothing is written for one that cannot be."""
        from echo_embeddings import __version__

        encoder = self._encoder
        precision, config = encoder.precision, encoder.config.fingerprint()
        _ = encoder.dimension
        return {
            "column": self._table.column,
            "role": self._role,
            "model": encoder.model_name,
            "config": config,
            "precision": precision,
            "encoder": encoder.fingerprint(),
            "checkpoint_rows": self._size,
            "version": __version__,
        }

    def run(self, chunks: Iterator[Chunk], checkpoints: Checkpoints, show: Callable[[RowsDone], object]) -> None:
        """Save a checkpoint of each chunk that an earlier run has not saved."""
        number = 0
        for number, (chunk, columns) in enumerate(self._read(chunks, checkpoints)):
            checkpoint = checkpoints.get(number)
            if checkpoint is not None:
                self._require_same(checkpoint, chunk, columns, checkpoints)
                self.resumed += checkpoint.rows
            else:
                vectors, truncated = self._embed(chunk.texts, show)
                checkpoint = Checkpoint(len(chunk.texts), _digest(chunk.texts), columns, truncated)
                saved = b"" if self._columns is None else self._columns.as_bytes(chunk.columns)
                checkpoints.save(number, checkpoint, vectors, saved)
            self.rows += checkpoint.rows
            texts, tokens = checkpoint.truncated
            self.truncated = (self.truncated[0] + texts, self.truncated[1] + tokens)
            show(RowsDone(self.rows, self.resumed, self._table.total))
        if checkpoints.end > number + 1:
            raise self._changed(f"it ends after row {self.rows}", checkpoints)

    def write(self, path: Path, checkpoints: Checkpoints) -> None:
        """Write the output from the checkpoints."""
        dimension = self._encoder.dimension
        if self._columns is None:
            _write_npy(path, (self.rows, dimension), (vectors for vectors, _ in checkpoints.read()))
            return
        with _advice(checkpoints, "add --restart after mending the input"):
            self._columns.write(path, dimension, checkpoints.read())

    def _read(self, chunks: Iterator[Chunk], checkpoints: Checkpoints) -> Iterator[tuple[Chunk, str | None]]:
        """Chunks with the digest of their columns."""
        while True:
            with _advice(checkpoints):
                chunk = next(chunks, None)
                if chunk is None:
                    return
                columns = None if self._columns is None else self._columns.add(chunk.columns, self.rows + 1)
            yield chunk, columns

    def _embed(self, texts: list[str], show: Callable[[RowsDone], object]) -> tuple[Vectors, tuple[int, int]]:
        encoder, done = self._encoder, self.rows
        before = encoder.truncated

        def advance(count: int) -> None:
            nonlocal done
            done += count
            show(RowsDone(done, self.resumed, self._table.total))

        encode = encoder.encode_queries if self._role == "query" else encoder.encode_documents
        with warnings.catch_warnings():
            if self.truncated[0]:  # said once a job is enough
                warnings.simplefilter("ignore", TruncationWarning)
            vectors = encode(texts, show_progress=advance)
        after = encoder.truncated
        return vectors, (after.texts - before.texts, after.tokens - before.tokens)

    def _require_same(self, saved: Checkpoint, chunk: Chunk, columns: str | None, checkpoints: Checkpoints) -> None:
        if self._columns is not None and saved.columns is None:
            raise InputError(
                f"{checkpoints.folder} holds vectors without the other columns, as for a .npy file; write to .npy, or "
                "add --restart to begin anew"
            )
        same = saved.texts == _digest(chunk.texts) and (columns is None or saved.columns == columns)
        if not same:
            raise self._changed(f"rows {self.rows + 1} to {self.rows + len(chunk.texts)} are others", checkpoints)

    def _changed(self, how: str, checkpoints: Checkpoints) -> InputError:
        return InputError(
            f"{self._table.name}: the input changed since {checkpoints.rows} of its rows were saved in "
            f"{checkpoints.folder}: {how}. Give the same input to go on, or add --restart to begin anew"
        )


@contextmanager
def _advice(checkpoints: Checkpoints, way_on: str = "mend the input and run the same again to go on") -> Iterator[None]:
    """Add to an error in the input what is saved already, and how to go on."""
    try:
        yield
    except InputError as error:
        rows, folder = checkpoints.rows, checkpoints.folder
        if not rows:
            checkpoints.remove()
            raise
        message = f"{error}. {rows} rows are saved in {folder}: {way_on}"
        if folder.name.endswith(".parquet.parts"):
            alone = folder.name.removesuffix(".parquet.parts") + ".npy"
            message += f"; for the vectors alone, rename that folder to {alone}.parts and write to {alone}"
        raise InputError(message) from error


@contextmanager
def _showing(show: bool | Callable[[RowsDone], object], total: int | None) -> Iterator[Callable[[RowsDone], object]]:  # noqa: FBT001
    if callable(show):
        yield show
    elif not show:
        yield lambda _: None
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="row", desc="embedding") as bar:

            def update(now: RowsDone) -> None:
                bar.initial = now.resumed  # these do not count for the rate
                bar.update(now.done - bar.n)

            yield update


def _parts(target: Path) -> Path:
    return target.with_name(f"{target.name}.parts")


def _digest(texts: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for text in texts:
        content = text.encode(errors="surrogatepass")
        sha.update(len(content).to_bytes(8, "little"))
        sha.update(content)
    return sha.hexdigest()


def _write_npy(path: Path, shape: tuple[int, int], pieces: Iterator[Vectors]) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for vectors in pieces:
            file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
