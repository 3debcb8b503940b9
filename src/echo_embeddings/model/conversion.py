"""GGUF files, converted once: transformers needs minutes to read one, and a second to load what it is converted to.

What is converted lies in the user's cache, under the SHA-256 of its file, so another path of the same file does not
count. ``echo-embeddings model list`` shows it, ``echo-embeddings model remove`` removes it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo_embeddings import notices, user_cache
from echo_embeddings.data.files import whole_file
from echo_embeddings.errors import EchoWarning, InputError, ModelUnavailableError, warn

from . import builtin, gguf
from .cached import MANIFEST, CachedFolder, digest
from .fingerprint import sample

__all__ = ["Converted", "config_folder", "converted", "list_converted", "remove"]

#: What the file was, beside the converted model.
SOURCE = "gguf_source.json"
_DIGESTS = "digests.json"
# The parts of a file's header that say in which precision most weights are (llama.cpp's LLAMA_FTYPE).
_DTYPES = {0: "float32", 1: "float16"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Converted:
    """A converted model in the cache.

    Attributes:
        name: its name there, which ``remove`` takes.
        source: the file that it was made from, as it was called then; the built-in model's package.
        folder: where it is.
        size: bytes on the disk.
    """

    name: str
    source: str
    folder: Path
    size: int


def converted(file: Path) -> Path:
    """The folder with the converted model of a GGUF file; it is converted first if that was not done yet.

    Weights are kept in bfloat16, those of files in float16 or float32 as they are.

    Returns:
        The folder.

    Raises:
        ModelUnavailableError: the cache cannot be read or written.
    """
    return _cached(file).get(lambda unfinished: _make(file, unfinished))


def config_folder(file: Path) -> Path | None:
    """The folder with the converted model, if there is one already; nothing is converted."""
    try:
        cached = _cached(file)
        return cached.path if cached.fault() is None else None
    except (OSError, ModelUnavailableError):
        return None


def list_converted() -> list[Converted]:
    """What is in the cache, the built-in model first, then by name."""
    found = []
    if (folder := builtin.cache_folder()).is_dir():
        found.append(Converted(builtin.NAME, builtin.REQUIREMENT, folder, _size(folder)))
    for path in sorted(_folder().glob(f"*/{MANIFEST}")):
        source = ""
        with suppress(OSError, ValueError, KeyError):
            source = str(json.loads((path.parent / SOURCE).read_text(encoding="utf-8"))["file"])
        found.append(Converted(path.parent.name, source, path.parent, _size(path.parent)))
    return found


def remove(name: str) -> Converted:
    """Remove a converted model from the cache. It is converted again when it is used again.

    Args:
        name: one of those that :func:`list_converted` gives.

    Raises:
        InputError: there is none of that name.
        ModelUnavailableError: it is being made, or it cannot be removed.
    """
    there = {one.name: one for one in list_converted()}
    if name not in there:
        known = f"there are {', '.join(there)}" if there else "it holds no model"
        raise InputError(f"there is no model {name!r} in the cache {user_cache.folder()}; {known}")
    if name == builtin.NAME:
        builtin.remove()
    else:
        CachedFolder(there[name].folder, f"the model {name}", "").remove()
    return there[name]


def _folder() -> Path:
    return user_cache.folder() / "gguf"


def _cached(file: Path) -> CachedFolder:
    # Names of files may hold what no folder's name should; the digest is what counts.
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", file.stem)[:80]
    megabytes = 4 * file.stat().st_size // 10**6
    return CachedFolder(_folder() / f"{name}-{_digest_of(file)[:12]}", f"the model in {file.name}", f"{megabytes} MB")


def _digest_of(file: Path) -> str:
    """SHA-256 of a file. It is computed once: 5 GB take ten seconds. A copy with another time is read again."""
    about = file.stat()
    key = " ".join([str(about.st_size), str(about.st_mtime_ns), sample(file)])
    known = _known_digests()
    if key not in known:
        known = _known_digests() | {key: digest(file)}
        with suppress(OSError):  # then it is computed again the next time
            _folder().mkdir(parents=True, exist_ok=True)
            with whole_file(_folder() / _DIGESTS) as path:
                path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known[key]


def _known_digests() -> dict[str, str]:
    try:
        found = json.loads((_folder() / _DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_sound = isinstance(found, dict) and all(re.fullmatch("[0-9a-f]{64}", str(value)) for value in found.values())
    return found if is_sound else {}


def _make(file: Path, target: Path) -> None:
    started = time.monotonic()
    notices.say(
        _log,
        f"converting {file.name} ({file.stat().st_size // 10**6:,} MB), once: some minutes; it is kept in {_folder()}",
    )
    with notices.loading_bars():
        gguf.convert(file, target, _dtype(file))
    about = {"file": os.fspath(file.absolute()), "sha256": _digest_of(file), "converted": time.strftime("%Y-%m-%d")}
    (target / SOURCE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    notices.say(_log, f"converted {file.name} in {time.monotonic() - started:.0f} s; from now on it loads in seconds")


def _dtype(file: Path) -> str:
    """The dtype that holds what the file's weights have: those of 2 to 8 bits fit into bfloat16."""
    from gguf import GGUFReader

    field = GGUFReader(file).fields.get("general.file_type")
    return "bfloat16" if field is None else _DTYPES.get(int(field.contents()), "bfloat16")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
