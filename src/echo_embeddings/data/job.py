"""The loop of a job that can be resumed: read rows, embed those that are not saved yet, save, and write the output.

The input is read once. An encoder is whatever fits :class:`TableEncoder`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from echo_embeddings.errors import InputError, NumericalError, TruncationWarning
from echo_embeddings.types import DTYPES, Vectors, width

from .checkpoints import Checkpoint, Checkpoints, require_size
from .tables import Chunk, Table

if TYPE_CHECKING:
    from .columns import Columns

__all__ = ["Job", "RowsDone", "TableEncoder", "digest", "made_with"]

# A chunk with the digest of its columns.
_Read = tuple[Chunk, str | None]


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
        """How many bytes a number of a vector has, such as ``"float32"``; see ``vectors/precision.py``."""

    @property
    def computed_in(self) -> str:
        """Device and dtype, such as ``"cpu torch.bfloat16"``: vectors of one and the other must not be mixed."""

    @property
    def truncated(self) -> _Counted:
        """Texts truncated, and tokens not read, since the encoder was made."""

    def fingerprint(self) -> str:
        """Another one wherever vectors may be others."""

    def encode_documents(self, texts: list[str], *, show_progress: Callable[[int], object]) -> Vectors:
        """Vectors ``[n, width]`` of what is searched in; ``show_progress`` is told the texts of each batch."""

    def encode_queries(self, texts: list[str], *, show_progress: Callable[[int], object]) -> Vectors:
        """The same for what is searched for."""

    def encode_chunks(self, documents: list[str], chunks: list[list[tuple[int, int]]]) -> list[Vectors]:
        """For each document the vectors of its chunks; called for late chunking only.

        Then ``config`` has ``require_chunking`` too, as ``EchoConfig`` has.
        """


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


def made_with(encoder: TableEncoder, column: str, role: str, checkpoint_rows: int) -> dict[str, Any]:
    """What a job's vectors are made with: what two runs of it made with different values must not be mixed.

    Nothing is loaded.

    Args:
        encoder: what embeds.
        column: the column of texts.
        role: "document" or "query".
        checkpoint_rows: rows that are saved together.
    """
    return {
        "column": column,
        "role": role,
        "model": encoder.model_name,
        "config": encoder.config.fingerprint(),
        "precision": encoder.precision,
        "computed_in": encoder.computed_in,
        "encoder": encoder.fingerprint(),
        "checkpoint_rows": checkpoint_rows,
        "version": _version(),
    }


class Job:
    """A table on its way to vectors: :meth:`begin`, then :meth:`run`, then :meth:`write`.

    Args:
        table: the input.
        encoder: what embeds it.
        role: "document" or "query".
        checkpoint_rows: rows that are embedded, and saved, together.
        columns: what becomes of the other columns; ``None`` if the output is vectors alone.
        split: what the rows are parts of, such as ``"passages"``; ``None`` if they are the table's own.
        late_chunking: embed the passages of a text from all of it; for a table of passages.
    """

    def __init__(
        self,
        table: Table,
        encoder: TableEncoder,
        role: str,
        checkpoint_rows: int,
        columns: Columns | None,
        *,
        split: str | None = None,
        late_chunking: bool = False,
    ) -> None:
        self._table, self._encoder, self._role, self._size = table, encoder, role, checkpoint_rows
        self._columns, self._split, self._late = columns, split, late_chunking
        #: Rows that are finished, and how many of them an earlier run had finished.
        self.rows = self.resumed = 0
        #: Texts that were truncated, and tokens of them that were not read.
        self.truncated = (0, 0)

    def begin(self) -> Iterator[_Read]:
        """Read the first rows, so that a wrong column or an empty file is said before the model is loaded."""
        read = self._read()
        first = next(read, None)
        if first is None:
            raise InputError(f"{self._table.name} is empty: there is nothing to embed")
        return chain([first], read)

    def manifest(self) -> dict[str, Any]:
        """What the vectors are made with; loads the model, so that nothing is written for one that cannot be."""
        made = made_with(self._encoder, self._table.column, self._role, self._size)
        _ = self._encoder.dimension
        return made | {"split": self._split, "late_chunking": self._late}

    def run(self, read: Iterator[_Read], checkpoints: Checkpoints, show: Callable[[RowsDone], object]) -> None:
        """Save a checkpoint of each chunk that an earlier run has not saved."""
        number = 0
        for number, (chunk, columns) in enumerate(_advised(read, checkpoints)):
            checkpoint = checkpoints.get(number)
            if checkpoint is not None and self._is_same(checkpoint, chunk, columns, checkpoints):
                self.resumed += checkpoint.rows
            else:
                vectors, truncated = self._embed(chunk, show)
                self._check(vectors, len(chunk.texts))
                checkpoint = Checkpoint(len(chunk.texts), digest(chunk.texts), columns, truncated)
                checkpoints.save(number, checkpoint, vectors, self._saved(chunk))
            self.rows += checkpoint.rows
            texts, tokens = checkpoint.truncated
            self.truncated = (self.truncated[0] + texts, self.truncated[1] + tokens)
            show(RowsDone(self.rows, self.resumed, self._table.total))
        if checkpoints.end > number + 1:
            raise self._changed(f"it ends after row {self.rows}", checkpoints)
        if not self._table.is_unchanged():
            raise InputError(
                f"{self._table.name}: the input changed while it was embedded, and its rows may be of one state and of "
                f"another. {self.rows} rows are saved in {checkpoints.folder}: run the same again to go on with those "
                "that are still the same"
            )

    def write(self, path: Path, checkpoints: Checkpoints) -> None:
        """Write the output from the checkpoints."""
        columns, dtype = self._width, DTYPES[self._encoder.precision]
        if self._columns is None:
            _write_npy(path, (self.rows, columns), dtype, (vectors for vectors, _ in checkpoints.read()))
            return
        with _advice(checkpoints, "add --restart after mending the input"):
            from .parquet import write_parquet

            tables = ((self._columns.fitted(content), vectors) for vectors, content in checkpoints.read())
            write_parquet(path, self._columns.schema, columns, tables, self._table.name, dtype)

    def _read(self) -> Iterator[_Read]:
        for chunk in self._table.chunks(self._size, columns=self._columns is not None):
            yield chunk, None if self._columns is None else self._columns.add(chunk.columns, chunk.places)

    def _saved(self, chunk: Chunk) -> bytes:
        if self._columns is None:
            return b""
        from .columns import as_bytes

        return as_bytes(chunk.columns)

    def _embed(self, chunk: Chunk, show: Callable[[RowsDone], object]) -> tuple[Vectors, tuple[int, int]]:
        encoder, done, texts = self._encoder, self.rows, chunk.texts
        if self._late and chunk.documents is not None:
            documents, spans = zip(*chunk.documents, strict=True)
            return np.concatenate(encoder.encode_chunks(list(documents), list(spans))), (0, 0)
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

    @property
    def _width(self) -> int:
        """How many numbers a vector is."""
        return width(self._encoder.dimension, self._encoder.precision)

    def _check(self, vectors: Vectors, rows: int) -> None:
        wanted = (rows, self._width)
        if vectors.shape != wanted:
            raise NumericalError(f"the encoder gave vectors of shape {vectors.shape} for {rows} texts, not {wanted}")
        if not np.isfinite(vectors).all():
            row = self.rows + int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0]) + 1
            raise NumericalError(f"{self._table.name}, row {row}: the encoder gave NaN or infinity for this text")

    def _is_same(self, saved: Checkpoint, chunk: Chunk, columns: str | None, checkpoints: Checkpoints) -> bool:
        """Whether a checkpoint is of these rows; false if rows were added to the input since it ended there.

        Raises:
            InputError: it is of others.
        """
        if self._columns is not None and saved.columns is None:
            raise InputError(
                f"{checkpoints.folder} holds vectors without the other columns, as for a .npy file; write to .npy, or "
                "add --restart to begin anew"
            )
        if saved.texts == digest(chunk.texts) and (columns is None or saved.columns == columns):
            return True
        if saved.rows < len(chunk.texts) and saved.texts == digest(chunk.texts[: saved.rows]):
            return False
        raise self._changed(f"rows {self.rows + 1} to {self.rows + len(chunk.texts)} are others", checkpoints)

    def _changed(self, how: str, checkpoints: Checkpoints) -> InputError:
        return InputError(
            f"{self._table.name}: the input changed since {checkpoints.rows} of its rows were saved in "
            f"{checkpoints.folder}: {how}. Give the same input to go on, or add --restart to begin anew"
        )


def _advised(read: Iterator[_Read], checkpoints: Checkpoints) -> Iterator[_Read]:
    while True:
        with _advice(checkpoints):
            chunk = next(read, None)
        if chunk is None:
            return
        yield chunk


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


def _version() -> str:
    try:
        return version("echo-embeddings")
    except PackageNotFoundError:  # run from a folder of sources
        return "unknown"


def digest(texts: Iterable[str]) -> str:
    """SHA-256 (hex) of texts in their order."""
    sha = hashlib.sha256()
    for text in texts:
        content = text.encode(errors="surrogatepass")
        sha.update(len(content).to_bytes(8, "little"))
        sha.update(content)
    return sha.hexdigest()


def _write_npy(path: Path, shape: tuple[int, int], dtype: np.dtype[Any], pieces: Iterator[Vectors]) -> None:
    written = dtype.newbyteorder("<")
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": written.str, "fortran_order": False, "shape": shape})
        for vectors in pieces:
            file.write(np.ascontiguousarray(vectors, dtype=written).tobytes())
        size = file.tell()
    require_size(path, size)
