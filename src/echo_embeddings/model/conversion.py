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
from dataclasses import dataclass, replace
from pathlib import Path

from echo_embeddings import notices, user_cache
from echo_embeddings.data.files import whole_file
from echo_embeddings.errors import InputError, ModelError, ModelUnavailableError, warn

from . import builtin
from .cached import MANIFEST, CachedFolder, digest
from .fingerprint import sample_digest
from .gguf import convert, require_gguf, split_gguf
from .hub import find_file
from .spec import ModelSpec

__all__ = ["Converted", "from_cache", "list_converted", "remove"]

#: What the file was, beside the converted model.
SOURCE = "gguf_source.json"
_DIGESTS = "digests.json"
# Arguments that say where the file is; the converted model is elsewhere.
_PLACES = ("gguf_file", "revision", "subfolder", "cache_dir", "local_files_only", "token", "force_download", "proxies")

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


def from_cache(spec: ModelSpec, *, may_convert: bool = True) -> ModelSpec:
    """The spec of the converted model where ``spec`` means a GGUF file; else ``spec`` itself.

    If the cache cannot be written, a warning says so, and the file itself is what is loaded.

    Args:
        spec: a model that is not loaded; its hub id, if it is one, has its commit.
        may_convert: convert the file if that was not done yet; ``False`` gives ``spec`` itself then.

    Raises:
        ModelError: there is no such file; or what transformers raises for a file that it cannot read.
    """
    if (file := _file(spec)) is None:
        return spec
    cached = _cached(file)
    try:
        if not may_convert and cached.fault() is not None:
            return spec
        folder = cached.get(lambda unfinished: _make(file, unfinished))
    except ModelUnavailableError as error:
        if may_convert:
            warn(RuntimeWarning(f"{error}. Until then {file.name} is converted at every start, which takes minutes"))
        return spec
    kwargs = {name: value for name, value in spec.model_kwargs.items() if name not in _PLACES}
    return replace(spec, model=os.fspath(folder), model_kwargs=kwargs)


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


def _file(spec: ModelSpec) -> Path | None:
    """The GGUF file that a spec means, downloaded if it is on the hub; ``None`` if it means none."""
    location = spec.location()
    folder, path = split_gguf(location)
    name = path.get("gguf_file") or spec.model_kwargs.get("gguf_file")
    if name is None:
        return None
    if path or Path(folder).is_dir():
        inside = "" if path else spec.model_kwargs.get("subfolder") or ""
        file = Path(folder, inside, name)
        require_gguf(file)
        return file
    found = find_file(spec, name)
    if found is None:
        raise ModelError(f"model {spec.name!r} has no file {name!r}; see its list of files on the hub")
    return Path(found)


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
    key = " ".join([str(about.st_size), str(about.st_mtime_ns), sample_digest(file)])
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
        convert(file, target)
    about = {"file": os.fspath(file.absolute()), "sha256": _digest_of(file), "converted": time.strftime("%Y-%m-%d")}
    (target / SOURCE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    notices.say(_log, f"converted {file.name} in {time.monotonic() - started:.0f} s; from now on it loads in seconds")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
