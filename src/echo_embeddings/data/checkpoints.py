"""The finished part of an unfinished job: one file a checkpoint of rows, beside a manifest of what they were made with.

Checkpoints begin at fixed rows and are computed whole. So a run that was stopped and started again computes the same
batches, and gives the same bits, as one that was not. Knows files and arrays, no tables and no pyarrow.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from echo_embeddings.errors import InputError
from echo_embeddings.types import Vectors

from .files import remove, whole_file

__all__ = ["Checkpoint", "Checkpoints"]

_MANIFEST = "manifest.json"

#: What must not change between two runs of a job, and what a user calls it.
_EXPLAINED = {
    "column": "--column",
    "role": "--role",
    "model": "--model",
    "config": "the configuration (--config, --max-length)",
    "precision": "the device or the dtype",
    "checkpoint_rows": "--checkpoint-rows",
    "version": "the version of echo-embeddings",
}


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
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, manifest: dict[str, Any], *, restart: bool) -> Checkpoints:
        """Take up what an earlier run left, or begin.

        Args:
            folder: where the checkpoints are, or will be.
            manifest: what the vectors are made with; it must be the same in both runs.
            restart: remove what is there.

        Raises:
            InputError: the folder holds checkpoints that were made with something else, or was not made by embed.
        """
        if restart:
            remove(folder)
        checkpoints = cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".*.tmp"):
            unfinished.unlink(missing_ok=True)
        if any(folder.iterdir()):
            _require_same(folder, manifest, is_empty=not checkpoints.end)
        with whole_file(folder / _MANIFEST) as path:
            path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        return checkpoints

    @property
    def rows(self) -> int:
        """Rows of all checkpoints that are saved."""
        return sum(self._checkpoint(path).rows for path in self._paths())

    @property
    def end(self) -> int:
        """The number after that of the last checkpoint that is saved."""
        return max((int(path.stem) + 1 for path in self._paths()), default=0)

    def get(self, number: int) -> Checkpoint | None:
        """What is known of a checkpoint; ``None`` if it is not saved."""
        path = self._path(number)
        return self._checkpoint(path) if path.is_file() else None

    def save(self, number: int, checkpoint: Checkpoint, vectors: Vectors, columns: bytes = b"") -> None:
        """Save a checkpoint, whole or not at all.

        Args:
            number: its place, from 0.
            checkpoint: what is known of its rows.
            vectors: float32 ``[rows, dimension]``.
            columns: the rows' columns in a form of the caller's.
        """
        known = np.frombuffer(json.dumps(asdict(checkpoint)).encode(), np.uint8)
        with whole_file(self._path(number)) as path, path.open("wb") as file:
            np.savez(file, known=known, vectors=vectors, columns=np.frombuffer(columns, np.uint8))

    def read(self) -> Iterator[tuple[Vectors, bytes]]:
        """Vectors and columns of all checkpoints in order."""
        for number in range(self.end):
            with np.load(self._path(number)) as saved:
                yield saved["vectors"], saved["columns"].tobytes()

    def remove(self) -> None:
        """Remove the folder."""
        remove(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.npz"))

    @staticmethod
    def _checkpoint(path: Path) -> Checkpoint:
        try:
            with np.load(path) as saved:
                known = json.loads(saved["known"].tobytes())
            return Checkpoint(known["rows"], known["texts"], known["columns"], tuple(known["truncated"]))
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged ({error}); remove it, and its rows are computed again") from error


def _require_same(folder: Path, manifest: dict[str, Any], *, is_empty: bool) -> None:
    try:
        found = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{folder} is in the way and was not made by embed; move it away or choose another output")
    changed = [name for key, name in _EXPLAINED.items() if found.get(key) != manifest[key]]
    if not changed and found != manifest:
        changed = ["the adapter or model_kwargs"]  # of the encoder's fingerprint
    if changed and not is_empty:
        raise InputError(
            f"{folder} holds an unfinished run of something else: {', '.join(changed)} changed since. "
            "Run it as before to go on, or add --restart to begin anew"
        )
