"""A folder of parquet files in, the same files with vectors out: a job whose every finished file counts once.

Knows no engine: whoever spreads the work maps :func:`embed_fragment` over :attr:`FolderJob.todo`. An output says in
its footer which job and which rows it is of. So what is there when a run dies is all that the next run has to know.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from echo_embeddings.data.checkpoints import difference
from echo_embeddings.data.job import digest, made_with
from echo_embeddings.data.parquet import UNREADABLE, write_parquet
from echo_embeddings.data.reading import Bounds
from echo_embeddings.errors import EchoError, InputError, OutputError
from echo_embeddings.types import DTYPES, Role, Vectors, width

from .fragments import BLOCK_ROWS, Fragment, input_files, opened
from .places import Place
from .rows import cells, embed_rows

if TYPE_CHECKING:
    from echo_embeddings.encoder import EchoEncoder

__all__ = ["SKIPPED", "Done", "FolderJob", "Work", "embed_fragment", "made_by"]

#: Beside the output: a line of JSON for each row that was left out.
SKIPPED = "_skipped.jsonl"

_MANIFEST = "_echo_embeddings/manifest.json"
_SIDE = "_echo_embeddings/skipped"
# In the footer of an output.
_RECORD = b"echo_embeddings"
_WAY_ON = "Run it as before to go on, choose another folder, or add --restart to begin anew"


@dataclass(frozen=True)
class Work:
    """What a worker must know to embed a fragment.

    Attributes:
        source: where the rows are.
        target: where the vectors go.
        column: the column of texts.
        role: "document" or "query".
        skip: leave out rows that cannot be embedded.
        bounds: how long a text may be.
        made_with: what all vectors of the job are made with.
    """

    source: Place
    target: Place
    column: str
    role: Role
    skip: bool
    bounds: Bounds
    made_with: dict[str, Any]

    @property
    def job(self) -> str:
        """Digest of what all vectors of the job are made with."""
        return hashlib.sha256(json.dumps(self.made_with, sort_keys=True).encode()).hexdigest()


@dataclass
class Done:
    """What an output says of itself.

    Attributes:
        job: of which job it is.
        file: the input file.
        digest: that file's digest.
        first: the first of its rows, counted from 0.
        rows: how many rows were read.
        skipped: how many of them were left out.
        texts: SHA-256 (hex) of the texts that have a vector.
        dimension: length of a vector.
        truncated: how many texts were truncated, and how many tokens of them were not read.
    """

    job: str
    file: str
    digest: str
    first: int
    rows: int
    skipped: int = 0
    texts: str = ""
    dimension: int = 0
    truncated: tuple[int, int] = (0, 0)


@dataclass
class FolderJob:
    """A job, as the process that runs it sees it.

    Attributes:
        work: what every worker must know.
        fragments: the whole input.
        done: what is finished, by the outputs' paths.
    """

    work: Work
    fragments: list[Fragment]
    done: dict[str, Done] = field(default_factory=dict)

    @classmethod
    def open(cls, work: Work, fragments: list[Fragment], *, restart: bool) -> FolderJob:
        """Take up what an earlier run left, or begin. The caller holds the lock of the target.

        Args:
            work: what every worker must know.
            fragments: the whole input.
            restart: remove what an earlier run left.

        Raises:
            InputError: the target holds something else.
        """
        job = cls(work, fragments)
        if restart:
            job._remove()
        work.target.sweep()
        job.look()
        files = {one.file.name: one.file for one in job.fragments}
        manifest = {"made_with": work.made_with, "files": [asdict(file) for file in files.values()]}
        work.target.write(_MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        return job

    @property
    def todo(self) -> list[Fragment]:
        """What is not finished."""
        return [fragment for fragment in self.fragments if fragment.output not in self.done]

    @property
    def rows(self) -> int:
        """Rows that have a vector."""
        return sum(done.rows - done.skipped for done in self.done.values())

    @property
    def skipped(self) -> int:
        """Rows that were left out."""
        return sum(done.skipped for done in self.done.values())

    @property
    def truncated(self) -> tuple[int, int]:
        """How many texts were truncated, and how many tokens of them were not read."""
        counts = [done.truncated for done in self.done.values()]
        return sum(texts for texts, _ in counts), sum(tokens for _, tokens in counts)

    def look(self) -> None:
        """Find out from the target what is finished.

        Raises:
            InputError: the target holds what is of another job, of another input, or of nobody's.
        """
        target, expected = self.work.target, {fragment.output: fragment for fragment in self.fragments}
        names = list(target.files(".parquet"))
        with ThreadPoolExecutor(16) as pool:
            found = dict(zip(names, pool.map(lambda name: _record(target, name), names), strict=True))
        self.done = {}
        for name, record in found.items():
            if isinstance(record, Done):
                self._require_ours(name, record, expected.get(name))
                self.done[name] = record
            elif record == "foreign" or name not in expected:
                raise self._foreign(name)

    def require_same_input(self) -> None:
        """Check that the input still is what it was.

        Raises:
            InputError: it is not.
        """
        before = {fragment.file.name: fragment.file for fragment in self.fragments}
        now = {file.name: file for file in input_files(self.work.source, self.work.column, self.work.bounds)}
        if changed := sorted(name for name in before if now.get(name) != before[name]):
            raise InputError(
                f"{self.work.source.shown(changed[0])}: the file changed while the job ran, and its vectors may be of "
                "one state and of another. Add --restart to begin anew"
            )

    def finish(self) -> None:
        """Write one list of all rows that were left out, and remove what is of no more use."""
        target = self.work.target
        target.sweep()
        if not any(done.skipped for done in self.done.values()):
            target.remove(SKIPPED)
            return
        with target.writing(SKIPPED) as stream:
            for name, done in sorted(self.done.items(), key=lambda item: (item[1].file, item[1].first)):
                if done.skipped:
                    stream.write(target.read(_side(name)) or b"")
        target.sweep()

    def _require_ours(self, name: str, record: Done, fragment: Fragment | None) -> None:
        shown = self.work.target.shown(name)
        if record.job != self.work.job:
            raise InputError(f"{self.work.target.name} holds vectors of another job: {self._difference()}. {_WAY_ON}")
        rows = (record.file, record.first, record.rows)
        if fragment is None or (fragment.file.name, fragment.first, fragment.rows) != rows:
            raise InputError(
                f"{shown} was made from rows {record.first + 1} to {record.first + record.rows} of {record.file}, and "
                f"{self.work.source.name} has no such file any more. Give the same input to go on, remove that output, "
                "or add --restart to begin anew"
            )
        if fragment.file.digest != record.digest:
            raise InputError(
                f"{self.work.source.shown(record.file)}: the file changed since vectors of it were written to {shown}. "
                "Give the same input to go on, remove the outputs of that file, or add --restart to begin anew"
            )

    def _foreign(self, name: str) -> InputError:
        shown = self.work.target.shown(name)
        return InputError(f"{shown} was not made by embed; move it away or choose another folder")

    def _difference(self) -> str:
        """What this job and the one that the target is of differ in."""
        found, own = _manifest(self.work.target), self.work.made_with
        if found is None or found.keys() != own.keys():
            return "its manifest is damaged"
        if found["on_truncate"] != own["on_truncate"]:
            return f"on_truncate was {found['on_truncate']!r} and is {own['on_truncate']!r}"
        return difference(found, own)

    def _remove(self) -> None:
        """Remove what an earlier job has written, and nothing else."""
        target = self.work.target
        names = list(target.files(".parquet"))
        if foreign := [name for name in names if _record(target, name) == "foreign"]:
            raise self._foreign(foreign[0])
        for name in names:
            target.remove(name)
        target.remove(SKIPPED)
        target.remove_folder("_echo_embeddings")


def made_by(encoder: EchoEncoder, column: str, role: Role, rows: int) -> dict[str, Any]:
    """What vectors are made with that this encoder makes here. Loads no weights.

    Args:
        encoder: the encoder of a worker.
        column: the column of texts.
        role: "document" or "query".
        rows: the most rows of an output.
    """
    strict = "error" if encoder.options.on_truncate == "error" else "truncate"
    return made_with(encoder, column, role, rows) | {"on_truncate": strict}


def embed_fragment(work: Work, fragment: Fragment, encoder: EchoEncoder) -> Done:
    """Embed one fragment, and write its output as a whole; what is there already is written anew.

    Raises:
        EchoError: a row cannot be embedded, or a file cannot be read or written; names file and row.
    """
    _require_alike(work, encoder)
    file = fragment.file
    done = Done(work.job, file.name, file.digest, fragment.first, fragment.rows, dimension=encoder.dimension)
    pieces, before = _Pieces(work, fragment, encoder), encoder.truncated

    def about() -> dict[str, str]:
        after = encoder.truncated
        done.truncated = (after.texts - before.texts, after.tokens - before.tokens)
        done.skipped, done.texts = len(pieces.skipped), digest(pieces.digests)
        return {_RECORD.decode(): json.dumps(asdict(done))}

    try:
        with opened(work.source, fragment) as parquet, work.target.writing(fragment.output) as sink:
            shown = work.source.shown(file.name)
            columns, dtype = width(encoder.dimension, encoder.precision), DTYPES[encoder.precision]
            write_parquet(sink, parquet.schema_arrow, columns, pieces.of(parquet), shown, dtype, about)
            if pieces.skipped:
                lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in pieces.skipped)
                work.target.write(_side(fragment.output), lines.encode(errors="backslashreplace"))
    except OSError as error:
        if isinstance(error, EchoError):
            raise
        reason = f"{error.strerror or error}; what is finished is kept: make room and run the same again to go on"
        raise OutputError(error.errno or 0, reason, work.target.shown(fragment.output)) from error
    return done


class _Pieces:
    """The tables of a fragment with their vectors, and what is to be said of them when all are made."""

    def __init__(self, work: Work, fragment: Fragment, encoder: EchoEncoder) -> None:
        self._work, self._fragment, self._encoder = work, fragment, encoder
        self.skipped: list[dict[str, Any]] = []
        self.digests: list[str] = []

    def of(self, parquet: Any) -> Iterator[tuple[Any, Vectors]]:
        work, file, first = self._work, self._fragment.file.name, self._fragment.first + 1
        name = work.source.shown(file)
        for table in _readable(self._fragment.tables(parquet, BLOCK_ROWS), name):

            def place(row: int, first: int = first) -> str:
                return f"{name}, row {first + row}"

            content = cells(table.column(work.column), work.column, place, work.bounds)
            found = embed_rows(self._encoder, content, work.role, place, skip=work.skip)
            bad = sorted(found.bad.items())
            self.skipped += [{"file": file, "row": first + row, "error": str(error)} for row, error in bad]
            self.digests.append(digest(str(content[row]) for row in found.kept))
            yield (table.take(found.kept) if bad else table), found.vectors
            first += table.num_rows


def _readable(tables: Iterator[Any], name: str) -> Iterator[Any]:
    try:
        yield from tables
    except UNREADABLE as error:
        raise InputError(f"{name} cannot be read to its end ({error}); it is damaged") from error


def _require_alike(work: Work, encoder: EchoEncoder) -> None:
    own, job = made_by(encoder, work.column, work.role, work.made_with["checkpoint_rows"]), work.made_with
    if own == job:
        return
    differ = ", ".join(f"{key} {own[key]!r} and not {job[key]!r}" for key in job if own.get(key) != job[key])
    raise InputError(
        f"the worker on {socket.gethostname()} would make other vectors than the job began with: {differ}. Let all "
        "nodes have the same model and versions, and say device= and dtype= (--device, --dtype), such as float32"
    )


def _record(target: Place, name: str) -> Any:
    """What an output says of itself; "foreign" if it says nothing, "damaged" if it cannot be read."""
    try:
        with target.open(name) as stream:
            said = (pq.read_metadata(stream).metadata or {}).get(_RECORD)
    except UNREADABLE:
        return "damaged"
    with suppress(ValueError, TypeError):
        found = json.loads(said or "")
        return Done(**found | {"truncated": tuple(found["truncated"])})
    return "foreign"


def _manifest(target: Place) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, LookupError, TypeError):
        return dict(json.loads(target.read(_MANIFEST) or b"")["made_with"])
    return None


def _side(output: str) -> str:
    return f"{_SIDE}/{output}.jsonl"
