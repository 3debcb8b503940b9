"""What a saved folder says about itself: which config belongs to it, and which files were written together.

``config.json`` has a mark, the fingerprint of the echo config. ``echo_files.json`` has it too, because an adapter has
no ``config.json``; and it has the size and a checksum of the weights, the tokenizer and ``config.json``. So a file that
is damaged, or comes from another folder, is an error and never gives other vectors. transformers and
sentence-transformers ignore both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from echo_embeddings.config.files import ARRAYS_FILE, CONFIG_FILE, read_object
from echo_embeddings.errors import ConfigError, ModelError

__all__ = ["FILE", "MARK", "check", "checksum", "config_in", "mark", "mark_in", "unmark", "write"]

FILE = "echo_files.json"
#: The key in ``config.json``.
MARK = "echo_embeddings"

_FORMAT = 1
# Bytes that are added up in columns at a time, and the number of columns.
_BLOCK, _COLUMNS = 2**20, 1024
# What decides vectors. The config's own two files are known by the mark; they are not read if a config is given.
_NAME = re.compile(r"\w[\w.-]*")
_MODULES = re.compile(r"modules\.json|\d+_\w+/config\.json")
_TOKENIZER = ("tokenizer", "vocab", "merges", "special_tokens", "added_tokens")


def mark(folder: Path, fingerprint: str) -> None:
    """Write into a folder's ``config.json`` which config belongs to it."""
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content[MARK] = {"config": fingerprint}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def unmark(folder: Path) -> None:
    """Remove the mark of a ``config.json``; a model that was loaded by transformers carries it along."""
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.pop(MARK, None) is not None:
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def mark_in(path: Path, content: dict[str, Any]) -> str | None:
    """The fingerprint in the content of a ``config.json``, or ``None``.

    Raises:
        ModelError: there is something else in its place.
    """
    found = content.get(MARK)
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("config"), str):
        raise ModelError(f"{path}: {MARK}={found!r:.200} names no config; save the model again")
    return str(found["config"])


def config_in(path: Path) -> str:
    """The fingerprint of the config that an ``echo_files.json`` names.

    Raises:
        ModelError: the file is damaged.
    """
    return str(_content(path)["config"])


def write(folder: Path, fingerprint: str) -> None:
    """Write ``echo_files.json`` for the files that are in a folder now.

    Args:
        folder: the folder.
        fingerprint: that of the config that belongs to them.
    """
    inside = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = sorted(name for name in inside if _counts(name))
    files = {name: {"size": (folder / name).stat().st_size, "sum": checksum(folder / name)} for name in names}
    content = {"format": _FORMAT, "config": fingerprint, "files": files}
    (folder / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check(path: Path, find: Callable[[str], str | None], *, modules: bool = False) -> None:
    """Check the files of a folder against its ``echo_files.json``.

    Args:
        path: the ``echo_files.json``.
        find: a function that gives the path of a file of the model, or ``None`` if there is none.
        modules: whether to check sentence-transformers' files too, which an encoder does not read.

    Raises:
        ModelError: a file is missing or another one.
    """
    for name, size, wanted in _read(path):
        if _MODULES.fullmatch(name) and not modules:
            continue
        found = find(name)
        if found is None:
            raise ModelError(f"{path.with_name(name)} is missing, but {path} lists it; save the model again")
        file = Path(found)
        if file.stat().st_size != size or checksum(file) != wanted:
            raise ModelError(
                f"{file} is not the file that was saved with this model: it was damaged, or changed by something else. "
                f"Save the model again; if you changed it on purpose, remove {path.name}"
            )


def checksum(path: Path) -> str:
    """A checksum of a file that is as fast as its memory: SHA-256 (hex) of the sums of its columns, block by block."""
    sha, buffer = hashlib.sha256(), bytearray(_BLOCK)
    words = np.frombuffer(buffer, np.uint64).reshape(-1, _COLUMNS)
    with path.open("rb") as file:
        while count := file.readinto(buffer):
            buffer[count:] = bytes(_BLOCK - count)
            sha.update(words.sum(axis=0, dtype=np.uint64).tobytes())
    return sha.hexdigest()


def _counts(name: str) -> bool:
    is_weights = name.endswith((".safetensors", ".safetensors.index.json")) and name != ARRAYS_FILE
    is_config = name in ("config.json", "adapter_config.json")
    if "/" in name or name == "modules.json":
        return _MODULES.fullmatch(name) is not None
    return is_weights or is_config or (name.startswith(_TOKENIZER) and name != CONFIG_FILE)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_object(path)
    except ConfigError as error:
        raise ModelError(str(error)) from error
    is_list = isinstance(content.get("files"), dict) and isinstance(content.get("config"), str)
    if content.get("format") != _FORMAT or not is_list:
        raise ModelError(f"{path} is no list of files in format {_FORMAT}; save the model again")
    return content


def _read(path: Path) -> Iterable[tuple[str, int, str]]:
    files = _content(path)["files"]
    for name, entry in files.items():
        is_entry = isinstance(entry, dict) and isinstance(entry.get("size"), int) and isinstance(entry.get("sum"), str)
        if not is_entry or not (_NAME.fullmatch(name) or _MODULES.fullmatch(name)):
            raise ModelError(f"{path}: files[{name!r:.100}] is no size and sum; save the model again")
        yield name, entry["size"], entry["sum"]
