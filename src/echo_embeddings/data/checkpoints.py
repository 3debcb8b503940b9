"""The finished part of an unfinished job: one file a checkpoint of rows, beside a manifest of what they were made with.

Checkpoints begin at fixed rows and are computed whole. So a run that was stopped and started again computes the same
batches, and gives the same bits, as one that was not. A checkpoint says itself which job and which rows it belongs to;
one that is damaged, or belongs elsewhere, does not count. Knows files and arrays, no tables and no pyarrow.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from echo_embeddings.errors import EchoError, InputError, OutputError
from echo_embeddings.types import Vectors

from .files import whole_file

__all__ = ["Checkpoint", "Checkpoints", "difference", "require_size"]

_MANIFEST = "manifest.json"

# The names of all files that a job makes in its folder, the unfinished ones of a killed run too.
_NUMBERED = re.compile(r"\d{6,}\.npz")
_OURS = re.compile(rf"{re.escape(_MANIFEST)}|{_NUMBERED.pattern}|\..+\.[0-9a-f]{{8}}\.part")

#: What must not change between two runs of a job, and what a user calls it.
_EXPLAINED = {
    "column": "--column",
    "role": "--role",
    "model": "--model",
    "config": "the configuration (--config, --max-length)",
    "precision": "--precision",
    "computed_in": "the device or the dtype",
    "checkpoint_rows": "--checkpoint-rows",
    "split": "--split",
    "late_chunking": "--late-chunking",
    "version": "the version of echo-embeddings",
}

# What numpy, zipfile and json raise at bytes that are not what they should be.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    MemoryError,
    OverflowError,
    RecursionError,
    RuntimeError,  # of zipfile, at a bit that says "encrypted"; NotImplementedError at an unknown compression
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


@dataclass(frozen=True)
class Checkpoint:
    """What is known of the rows in one checkpoint.

    Attributes:
        rows: how many there are.
        texts: SHA-256 (hex) of the texts.
        columns: SHA-256 (hex) of all columns; ``None`` if they were not saved.
        truncated: how many texts were truncated, and how many tokens of them were not read.
    """

    rows: int
    texts: str
    columns: str | None = None
    truncated: tuple[int, int] = (0, 0)


class Checkpoints:
    """Saved checkpoints in a folder, numbered from 0.

    Args:
        folder: a folder that :meth:`open` has made or checked.
        job: digest of the manifest: checkpoints of another job do not count. ``None`` counts those of any job.
    """

    def __init__(self, folder: Path, job: str | None = None) -> None:
        self.folder = folder
        self._job = job

    @classmethod
    def open(cls, folder: Path, manifest: dict[str, Any], *, restart: bool) -> Checkpoints:
        """Take up what an earlier run left, or begin. The caller holds the lock of the output.

        Args:
            folder: where the checkpoints are, or will be.
            manifest: what the vectors are made with; it must be the same in both runs.
            restart: remove what an earlier run left.

        Raises:
            InputError: the folder holds checkpoints that were made with something else, or was not made by embed.
            OutputError: the folder cannot be written.
        """
        cls.require_ours(folder)
        checkpoints = cls(folder, _job(manifest))
        if restart:
            checkpoints.remove()
        elif folder.exists():
            checkpoints._require_same(manifest)
        with checkpoints.writing(folder):
            folder.mkdir(exist_ok=True)
            for left in folder.iterdir():
                if left.name.startswith(".") and _is_ours(left):
                    left.unlink(missing_ok=True)
            with whole_file(folder / _MANIFEST) as path:
                path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        return checkpoints

    @classmethod
    def found(cls, folder: Path) -> Checkpoints:
        """What an earlier run left, whatever it was made with."""
        manifest = _manifest(folder)
        return cls(folder, None if manifest is None else _job(manifest))

    @classmethod
    def require_ours(cls, folder: Path) -> None:
        """Check that nothing stands at the folder's place, or what a job made, and nothing else.

        Raises:
            InputError: something else does; it is left as it is.
        """
        way_on = "move it away or choose another output"
        if not os.path.lexists(folder):
            return
        if folder.is_symlink() or not folder.is_dir():
            kind = "a link" if folder.is_symlink() else "no folder"
            raise InputError(f"{folder} is in the way and was not made by embed: it is {kind}; {way_on}")
        names = sorted(path.name for path in folder.iterdir())
        others = [name for name in names if not _is_ours(folder / name)]
        is_job = all(name.startswith(".") for name in names) or _is_job(folder)
        if others and is_job:
            raise InputError(f"{folder} holds {others[0]!r}, which was not made by embed; {way_on}")
        if others or not is_job:
            raise InputError(f"{folder} is in the way and was not made by embed; {way_on}")

    @property
    def rows(self) -> int:
        """Rows of all checkpoints that are saved."""
        return sum(known.rows for known in _saved(self.folder, self._job).values())

    @property
    def end(self) -> int:
        """The number after that of the last checkpoint that is saved."""
        return max(_saved(self.folder, self._job), default=-1) + 1

    def get(self, number: int) -> Checkpoint | None:
        """What is known of a checkpoint; ``None`` if it is not saved, is damaged, or is not of this place and job."""
        content = self._content(number)
        return None if content is None else content[0]

    def save(self, number: int, checkpoint: Checkpoint, vectors: Vectors, columns: bytes = b"") -> None:
        """Save a checkpoint, whole or not at all.

        Args:
            number: its place, from 0.
            checkpoint: what is known of its rows.
            vectors: ``[rows, width]``, finite.
            columns: the rows' columns in a form of the caller's.

        Raises:
            OutputError: it cannot be written; says what is saved.
        """
        known = asdict(checkpoint) | {"number": number, "job": self._job}
        known["content"] = _content_digest(known, vectors, columns)
        packed = io.BytesIO()
        as_array = np.frombuffer(json.dumps(known).encode(), np.uint8)
        np.savez(packed, known=as_array, vectors=vectors, columns=np.frombuffer(columns, np.uint8))
        with self.writing(self._path(number)), whole_file(self._path(number)) as path:
            path.write_bytes(packed.getbuffer())
            require_size(path, packed.getbuffer().nbytes)

    def read(self) -> Iterator[tuple[Vectors, bytes]]:
        """Vectors and columns of all checkpoints in order.

        Raises:
            InputError: one was damaged after it was saved.
        """
        for number in range(self.end):
            content = self._content(number)
            if content is None:
                raise InputError(
                    f"{self._path(number)} was damaged after it was saved; run the same again, and its rows are "
                    "computed again"
                )
            yield content[1:]

    def remove(self) -> None:
        """Remove the folder, in one step for whoever looks for it; what embed did not write stays."""
        aside = _aside(self.folder)
        _clear(aside)
        if self.folder.is_dir() and all(map(_is_ours, self.folder.iterdir())):
            self.folder.replace(aside)
            _clear(aside)
        else:
            _clear(self.folder)

    def sweep(self) -> None:
        """Remove what is left of a folder whose removal was interrupted."""
        _clear(_aside(self.folder))

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Say what is saved and how to go on where a file cannot be written in the block.

        Raises:
            OutputError: instead of any other OSError.
        """
        try:
            yield
        except OSError as error:
            if isinstance(error, EchoError):
                raise
            rows = self.rows
            room = "make room and " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
            kept = f"{rows} rows are saved in {self.folder}: {room}run the same again to go on"
            if not rows:
                kept = f"{room}run the same again"
            reason = error.strerror or str(error)
            raise OutputError(error.errno, f"{reason}; {kept}", str(path)) from error

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def _content(self, number: int) -> tuple[Checkpoint, Vectors, bytes] | None:
        """A checkpoint with its vectors and columns; ``None`` if anything about it is not as it was saved."""
        with suppress(*_DAMAGE):
            packed = self._path(number).read_bytes()
            with zipfile.ZipFile(io.BytesIO(packed)) as file:
                known = _known(file)
            with np.load(io.BytesIO(packed)) as saved:
                vectors, columns = saved["vectors"], saved["columns"].tobytes()
            checkpoint = _checkpoint(known)
            content = known.pop("content")
            if (
                known["number"] == number
                and self._job in (None, known["job"])
                and content == _content_digest(known, vectors, columns)
                and vectors.ndim == 2
                and len(vectors) == checkpoint.rows
                and bool(np.isfinite(vectors).all())
            ):
                return checkpoint, vectors, columns
        return None

    def _require_same(self, manifest: dict[str, Any]) -> None:
        found, saved = _manifest(self.folder), _saved(self.folder)
        if found == manifest or not saved:  # a run that saved nothing is forgotten
            return
        if (
            _saved(self.folder, self._job) == saved
        ):  # what is saved says itself that it is of this job: the manifest is damaged
            return
        way_on = "Run it as before to go on, or add --restart to begin anew"
        if found is None or not found.keys() >= manifest.keys():
            raise InputError(
                f"{self.folder / _MANIFEST} is damaged, and not all that is saved is of this job. {way_on}"
            )
        what = difference(found, manifest)
        raise InputError(f"{self.folder} holds an unfinished run of something else: {what}. {way_on}")


#: What the manifest of every job has, whatever else it has.
_EVERY_JOB = {"encoder", "config", "checkpoint_rows"}


def difference(found: dict[str, Any], manifest: dict[str, Any]) -> str:
    """What differs between the manifests of two runs that must not be mixed, in the words of a user."""
    changed = [name for key, name in _EXPLAINED.items() if found.get(key) != manifest.get(key)]
    if not changed:  # only the encoder's fingerprint did
        return "the adapter or model_kwargs changed since, or the weights did"
    return f"{', '.join(changed)} changed since"


def require_size(path: Path, size: int) -> None:
    """Check that a file that was written has all its bytes: not every library notices that a disk is full.

    Raises:
        OSError: it has not.
    """
    found = path.stat().st_size
    if found != size:
        raise OSError(errno.ENOSPC, f"only {found:,} of {size:,} bytes were written", str(path))


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_job(folder: Path) -> bool:
    """Whether a folder has the manifest, or any checkpoint, of a job."""
    manifest = _manifest(folder)
    return (manifest is not None and manifest.keys() >= _EVERY_JOB) or bool(_saved(folder))


def _saved(folder: Path, job: str | None = None) -> dict[int, Checkpoint]:
    """What is known of the checkpoints of a job, or of any, by their numbers; their vectors are not read."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not _NUMBERED.fullmatch(path.name):
            continue
        with suppress(*_DAMAGE), zipfile.ZipFile(path) as file:
            known = _known(file)
            if int(path.stem) == known["number"] and job in (None, known["job"]):
                found[known["number"]] = _checkpoint(known)
    return found


def _known(file: zipfile.ZipFile) -> dict[str, Any]:
    with file.open("known.npy") as part:
        known = json.loads(np.lib.format.read_array(part, allow_pickle=False).tobytes())
    if not (type(known["number"]) is type(known["rows"]) is int and isinstance(known["content"], str)):
        raise TypeError("this is no checkpoint")
    return dict(known)


def _checkpoint(known: dict[str, Any]) -> Checkpoint:
    texts, tokens = known["truncated"]
    return Checkpoint(known["rows"], known["texts"], known["columns"], (texts, tokens))


def _content_digest(known: dict[str, Any], vectors: Vectors, columns: bytes) -> str:
    about = json.dumps([known, str(vectors.dtype), vectors.shape, len(columns)], sort_keys=True)
    return _digest(about.encode(), np.ascontiguousarray(vectors).data, columns)


def _job(manifest: dict[str, Any]) -> str:
    return _digest(json.dumps(manifest, sort_keys=True).encode())


def _digest(*parts: Any) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


def _is_ours(path: Path) -> bool:
    return bool(_OURS.fullmatch(path.name)) and path.is_file() and not path.is_symlink()


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _clear(folder: Path) -> None:
    """Remove the files of a job in a folder, and the folder if nothing else is in it."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in filter(_is_ours, list(folder.iterdir())):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()
