"""A folder in the user's cache that is made once, checked at each start, and made again if it is damaged.

It has a manifest with size and SHA-256 of each file. At each start the sizes are compared, and the digests of the small
files; a thorough check compares all digests.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from echo_embeddings import notices, user_cache
from echo_embeddings.data.files import locked, remove, whole_folder
from echo_embeddings.errors import InputError, ModelUnavailableError

__all__ = ["MANIFEST", "CachedFolder", "digest"]

MANIFEST = "manifest.json"

# Larger files are compared by their size at a start: a digest of the weights would take up to a second.
_SMALL = 8 * 2**20  # bytes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedFolder:
    """A folder in the cache.

    Args:
        path: where it is, or is to be.
        what: what it holds, for messages, such as ``"the built-in model"``.
        needs: what it takes on the disk while it is made, such as ``"400 MB"``.
    """

    path: Path
    what: str
    needs: str

    def fault(self, *, thorough: bool = False) -> str | None:
        """What is wrong with it; ``None`` if it is whole.

        Args:
            thorough: compare the digests of all files; else only the sizes, and the digests of small files.

        Raises:
            ModelUnavailableError: it is there, but this user may not read it.
        """
        try:
            return _fault(self.path, thorough=thorough)
        except PermissionError as error:
            raise ModelUnavailableError(
                f"this user may not read {error.filename}, a part of {self.what}; let its owner run\n    "
                f"chmod -R a+rX {self.path}\nor set {user_cache.VARIABLE} to another folder"
            ) from error

    def get(self, make: Callable[[Path], None], *, thorough: bool = False, anew: bool = False) -> Path:
        """The folder, which is made first if it is not there, or is damaged.

        Of several processes that want it at the same moment, one makes it and the others wait.

        Args:
            make: fills an empty folder.
            thorough: see :meth:`fault`.
            anew: make it in any case.

        Raises:
            ModelUnavailableError: the cache folder cannot be read or written; or what ``make`` raises.
        """
        if not anew and self.fault(thorough=thorough) is None:
            self._sweep()
            return self.path
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._lock_of_makers().exists():
                notices.say(_log, f"another process is making {self.what}; waiting for it to finish {self.path}")
            with locked(self._makers(), wait=True):
                fault = self.fault(thorough=thorough)  # another process may have made it in the meantime
                if fault is None and not anew:
                    return self.path
                if self.path.exists() and not anew:
                    _log.warning("%s in %s is damaged (%s); it is made again", self.what, self.path, fault)
                with whole_folder(self.path) as unfinished:
                    make(unfinished)
                    _write_manifest(unfinished)
        return self.path

    def remove(self) -> None:
        """Remove it, unless a process is making it.

        Raises:
            ModelUnavailableError: one is, or it cannot be removed.
        """
        with self._writing(), locked(self._makers()), locked(self.path):
            aside = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".old"))
            self.path.rename(aside / self.path.name)  # in one step, so that nobody finds a part of it
            remove(aside)

    def _makers(self) -> Path:
        """What the processes that want to make it lock, while they look whether it is there meanwhile."""
        return self.path.with_name(f"{self.path.name}.made")

    def _lock_of_makers(self) -> Path:
        return self.path.with_name(f".{self.path.name}.made.lock")

    def _sweep(self) -> None:
        """Remove what a process left that was killed after the folder was in place, unless one is at work."""
        try:
            if not (left := list(self.path.parent.glob(f".{self.path.name}.*"))):
                return
            with locked(self._makers()), locked(self.path):  # which removes the files of these locks
                for path in left:
                    if path.suffix in {".part", ".old"}:
                        remove(path)
        except (InputError, OSError):  # somebody is at work, or it is another user's folder
            pass

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what to do if the cache cannot be written."""
        elsewhere = f"set {user_cache.VARIABLE} to a folder that can, such as {Path(tempfile.gettempdir(), 'echo')}"
        try:
            yield
        except InputError as error:
            raise ModelUnavailableError(f"{error}, with {user_cache.VARIABLE}") from error
        except OSError as error:
            if isinstance(error, ModelUnavailableError) or error.errno is None:
                raise  # transformers raises an OSError without a number for files that it cannot read
            where = error.filename or self.path.parent
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise ModelUnavailableError(
                    f"the disk of the cache folder {self.path.parent} is full; {self.what} needs {self.needs} while it "
                    f"is made. Make room, or {elsewhere}"
                ) from error
            raise ModelUnavailableError(
                f"{self.what} cannot be kept in {self.path.parent}: {error.strerror or error} ({where}). Make the "
                f"folder writable, or {elsewhere}"
            ) from error


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _fault(folder: Path, *, thorough: bool) -> str | None:
    try:
        files = _manifest(folder)
        found = {path.name: path.stat() for path in folder.iterdir() if not path.name.startswith(".")}
        for name in sorted({*files, MANIFEST} ^ set(found)):
            return f"{name} is {'missing' if name in files else 'not part of it'}"
        for name, (size, expected) in files.items():
            if found[name].st_size != size:
                return f"{name} has {found[name].st_size:,} bytes, not {size:,}"
            if (thorough or size <= _SMALL) and expected != _digest(folder / name, found[name].st_mtime_ns, size):
                return f"the content of {name} has changed"
    except FileNotFoundError as error:
        return f"there is no {Path(error.filename or folder).name}"
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    return None


def _manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """Size in bytes and SHA-256 of each file."""
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not content:
        raise ValueError("it is not a list of files")
    files: dict[str, Any] = content
    return {name: (int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()}


def _write_manifest(folder: Path) -> None:
    entries = {}
    for path in sorted(folder.iterdir()):
        about = path.stat()
        entries[path.name] = {"size": about.st_size, "sha256": _digest(path, about.st_mtime_ns, about.st_size)}
    (folder / MANIFEST).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def _digest(path: Path, modified: int, size: int) -> str:
    """SHA-256 of a file. That of a small file is computed once, until its time or size changes."""
    return _digest_once(path, modified) if size <= _SMALL else digest(path)


@lru_cache(maxsize=64)
def _digest_once(path: Path, _modified: int) -> str:
    return digest(path)
