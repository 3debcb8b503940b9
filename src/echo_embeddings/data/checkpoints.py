"""The vectors of an unfinished ``embed``: one file a window of rows, beside a manifest of what they are vectors of.

Windows begin at fixed rows and are computed whole, so a run that was stopped and started again computes the same
batches, and gives the same bits, as one that was not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.errors import InputError

from .files import remove, whole_file

__all__ = ["Shards"]

Vectors = NDArray[np.float32]

_MANIFEST = "manifest.json"
_EXPLAINED = {
    "input": "the input's content",
    "column": "--column",
    "role": "--role",
    "model": "--model",
    "config": "the configuration (--config, --max-length)",
    "precision": "the device or the dtype",
    "window": "--window",
    "version": "the version of echo-embeddings",
}


@dataclass(frozen=True)
class Shards:
    """Saved windows in a folder.

    Attributes:
        folder: where they lie.
        rows: rows of the whole input.
        window: rows of each window but the last.
    """

    folder: Path
    rows: int
    window: int

    @classmethod
    def open(cls, folder: Path, manifest: dict[str, Any], *, rows: int, restart: bool) -> Shards:
        """Take up what an earlier run left, or begin.

        Raises:
            InputError: what is there are vectors of something else.
        """
        if restart:
            remove(folder)
        shards = cls(folder, rows, manifest["window"])
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".*.tmp"):
            unfinished.unlink(missing_ok=True)
        if any(folder.iterdir()):
            _require_same(folder, manifest)
        else:
            with whole_file(folder / _MANIFEST) as path:
                path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        return shards

    @property
    def count(self) -> int:
        """How many windows there are, saved or not."""
        return -(-self.rows // self.window)

    @property
    def rows_saved(self) -> int:
        """Rows of the windows that are saved."""
        return sum(min(self.window, self.rows - i * self.window) for i in range(self.count) if self.has(i))

    def has(self, number: int) -> bool:
        """Whether a window is saved."""
        return self._path(number).is_file()

    def save(self, number: int, vectors: Vectors) -> None:
        """Save a window, whole or not at all."""
        with whole_file(self._path(number)) as path, path.open("wb") as file:
            np.save(file, vectors)

    def read(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop`` of the whole, over as many windows as they lie in."""
        pieces = []
        for number in range(start // self.window, -(-stop // self.window)):
            first = number * self.window
            piece = np.load(self._path(number), mmap_mode="r")
            pieces.append(piece[max(start - first, 0) : stop - first])
        return np.concatenate(pieces)

    def windows(self) -> Iterator[Vectors]:
        """All windows in order."""
        for number in range(self.count):
            yield np.load(self._path(number))

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(np.load(self._path(0), mmap_mode="r").shape[1])

    def remove(self) -> None:
        """Remove the folder: the output has it all."""
        remove(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"


def _require_same(folder: Path, manifest: dict[str, Any]) -> None:
    try:
        found = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise InputError(
            f"{folder} is in the way and was not made by embed; move it away or choose another output"
        ) from None
    changed = [name for key, name in _EXPLAINED.items() if found.get(key) != manifest[key]]
    if changed:
        raise InputError(
            f"{folder} holds an unfinished run of something else: {', '.join(changed)} changed since. "
            "Run it as before to go on, or add --restart to begin anew"
        )
