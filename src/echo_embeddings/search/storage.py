"""An index on disk: vectors, passages, which file each is from, the echo config, and a manifest, in one folder.

The manifest is what holds them together. It has the digest of every other file, so parts that are damaged, or that come
from another index, are never taken for the right ones.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.config.files import ARRAYS_FILE, CONFIG_FILE
from echo_embeddings.data.files import current, whole_folder
from echo_embeddings.data.passages import Passage
from echo_embeddings.errors import EchoError, InputError
from echo_embeddings.extras import from_checkout
from echo_embeddings.vectors.precision import PRECISIONS

from .vectors import KINDS, Bits, type_of

__all__ = ["LONG_TEXTS", "Manifest", "Origin", "Stored", "read", "read_manifest", "require_replaceable", "write"]

FORMAT = 1
_MANIFEST, _PASSAGES, _FAISS, _ORIGINS = "manifest.json", "passages.jsonl", "index.faiss", "files.jsonl"
_PARTS = (_FAISS, _PASSAGES, _ORIGINS, CONFIG_FILE)
# What file managers leave in every folder that they show.
_DROPPINGS = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))

#: What may become of passages that are longer than the model reads.
LONG_TEXTS = ("truncated", "split")
_METRIC = "cosine"

# Other writers may replace an index while it is read; so often it is read anew.
_TRIES = 5
# Bytes read at a time.
_BLOCK = 1 << 20
# How a FAISS file begins: its kind, the dimension, the number of vectors, two numbers of no use, whether it is trained,
# and the metric, 0 for inner products.
_HEAD = struct.Struct("<4siqqq?i")

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class Manifest:
    """What an index was made with.

    Attributes:
        model: hub id or absolute path; ``None`` for the built-in model.
        model_name: the same for people.
        config: fingerprint of the echo config that lies beside.
        passages: how many there are.
        dimension: length of a vector.
        kind: ``"exact"`` or ``"hnsw"``.
        precision: how the vectors are kept: ``"float32"``, ``"float16"``, ``"int8"`` or ``"ubinary"``.
        long_texts: what became of passages that are longer than the model reads: ``"truncated"`` or ``"split"``.
        late_chunking: whether the vector of a passage has seen the whole file that it is from.
        format: version of the files.
        metric: what a score is; always ``"cosine"``.
        weights: fingerprint of the weights; ``None`` if the embedder has none.
        digests: SHA-256 (hex) of each other file of the folder, by its name; empty before it is saved.
    """

    model: str | None
    model_name: str
    config: str
    passages: int
    dimension: int
    kind: str = "exact"
    precision: str = "float32"
    long_texts: str = "truncated"
    late_chunking: bool = False
    format: int = FORMAT
    metric: str = _METRIC
    weights: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def on_truncate(self) -> str:
        """The option that an encoder needs for the same vectors of long passages."""
        return "split" if self.long_texts == "split" else "warn"


@dataclass(frozen=True)
class Origin:
    """Passages that follow each other in an index and come from one file.

    Attributes:
        passages: how many.
        name: the file, as in their sources; ``None`` for passages that were not read from files by the index.
        digest: SHA-256 (hex) of the file; ``None`` likewise.
    """

    passages: int
    name: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Stored:
    """All that is on disk.

    Attributes:
        manifest: what the index was made with.
        config: the echo config.
        vectors: a FAISS index, or ``Bits``.
        passages: what the vectors are of, in their order.
        origins: where the passages come from, in their order; together they have as many passages.
    """

    manifest: Manifest
    config: EchoConfig
    vectors: Any
    passages: list[Passage]
    origins: list[Origin]


def require_replaceable(folder: Path) -> None:
    """Refuse to write over anything that is not an index.

    Raises:
        InputError: there is something else, or something else is in the index's folder.
    """
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} - _DROPPINGS if folder.is_dir() else None
    if found is None or (found and not found & {_FAISS, _PASSAGES} and not _has_manifest(folder)):
        raise InputError(f"{folder} exists and is not an index; choose another place")
    if strangers := sorted(found - {*_PARTS, _MANIFEST, ARRAYS_FILE}):
        raise InputError(
            f"{folder} holds {strangers[0]!r}, which is no part of an index and would be lost; choose another place"
        )


def _has_manifest(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except InputError:
        return False
    return True


def write(folder: Path, stored: Stored) -> None:
    """Write an index, whole or not at all; one that is there is replaced. Another writer of the folder is waited for.

    Args:
        folder: the folder to write.
        stored: what to write; the digests in its manifest are made anew.

    Raises:
        InputError: the folder is there and is no index.
        OSError: the disk is full, or the folder cannot be written.
    """
    require_replaceable(folder)
    try:
        with whole_folder(folder, wait=True) as work:
            require_replaceable(folder)  # what another writer may have put there meanwhile
            _write_parts(work, stored)
    except OSError as error:
        if error.filename is None:  # a full disk does not say where
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise


def _write_parts(work: Path, stored: Stored) -> None:
    with (work / _FAISS).open("wb") as file:
        _write_vectors(stored.vectors, file)
    _write_lines(work / _PASSAGES, stored.passages)
    _write_lines(work / _ORIGINS, stored.origins)
    stored.config.save(work)
    digests = {path.name: _digest(path) for path in sorted(work.iterdir())}
    content = asdict(replace(stored.manifest, digests={})) | {"digests": digests}
    (work / _MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_vectors(vectors: Any, file: BinaryIO) -> None:
    """Write a FAISS index through Python: FAISS itself does not notice when the disk fills with its last bytes."""
    import faiss

    failed: list[OSError] = []

    def put(content: bytes) -> None:
        try:
            file.write(content)
        except OSError as error:
            failed.append(error)
            raise

    try:
        writer = faiss.PyCallbackIOWriter(put, _BLOCK)  # type: ignore[attr-defined]  # mypy does not see it
        if isinstance(vectors, Bits):
            faiss.write_index_binary(vectors.binary, writer)
        else:
            faiss.write_index(vectors, writer)
    except (OSError, RuntimeError) as error:
        raise (failed[0] if failed else error) from None


def _write_lines(path: Path, objects: Sequence[Passage | Origin]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_line(asdict(one)) for one in objects)


def _line(content: dict[str, Any]) -> str:
    """One line of JSON. Names of files that are no UTF-8 have lone surrogates, which JSON can hold only escaped."""
    line = json.dumps(content, ensure_ascii=False) + "\n"
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def read(folder: Path) -> Stored:
    """Read a whole index; once more if a writer replaced it meanwhile.

    Raises:
        InputError: it is no index, or a newer one; a file is missing, damaged, or belongs to another index.
        ConfigError: the echo config needs what this installation does not have.
    """
    for _ in range(_TRIES - 1):
        before = _version(folder)
        try:
            stored = _read(current(folder))
        except (EchoError, OSError):
            if _version(folder) == before:
                raise
        else:
            if _version(folder) == before:
                return stored
    return _read(current(folder))


def _version(folder: Path) -> tuple[int, ...]:
    """What changes when the folder, or its manifest, is replaced."""
    try:
        found = (current(folder).stat(), (current(folder) / _MANIFEST).stat())
    except OSError:
        return ()
    return tuple(number for one in found for number in (one.st_dev, one.st_ino, one.st_ctime_ns))


def _read(folder: Path) -> Stored:
    manifest = read_manifest(folder)
    config = _read_config(folder, manifest)
    vectors = _read_vectors(folder, manifest)
    passages, digest = _read_lines(folder / _PASSAGES, _passage)
    if len(passages) != manifest.passages:
        raise InputError(
            f"{folder / _PASSAGES} has {len(passages)} passages, but {_MANIFEST} says {manifest.passages}; make the "
            "index again"
        )
    _require(folder / _PASSAGES, digest, manifest)
    origins, digest = _read_lines(folder / _ORIGINS, _origin)
    _require(folder / _ORIGINS, digest, manifest)
    if sum(origin.passages for origin in origins) != manifest.passages:
        raise InputError(f"{folder / _ORIGINS} counts other passages than {_MANIFEST}; make the index again")
    return Stored(manifest, config, vectors, passages, origins)


def _read_config(folder: Path, manifest: Manifest) -> EchoConfig:
    if ARRAYS_FILE in manifest.digests:
        _require(folder / ARRAYS_FILE, _digest(folder / ARRAYS_FILE), manifest)
    if _digest(folder / CONFIG_FILE) == manifest.digests[CONFIG_FILE]:
        config = EchoConfig.load(folder)
        if config.fingerprint() == manifest.config:
            return config
    raise InputError(
        f"{folder}: its {CONFIG_FILE}, or the packaged adapter that this names, is not the one it was made with; make "
        "the index again"
    )


def _read_vectors(folder: Path, manifest: Manifest) -> Any:
    """The FAISS index of a folder. FAISS reads only what has the right digest: a damaged size can take all memory."""
    import faiss

    path = folder / _FAISS
    if _digest(path) != manifest.digests[_FAISS]:
        raise _unlike(path, manifest)
    try:
        index: Any
        if manifest.precision == "ubinary":
            index = Bits(manifest.dimension, faiss.read_index_binary(str(path)))
        else:
            index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else "too large for the memory"
        raise InputError(f"{path} cannot be read ({reason}); make the index again") from error
    fits = (index.ntotal, index.d) == (manifest.passages, manifest.dimension)
    if manifest.precision == "ubinary":
        fits = fits and index.binary.d == 8 * -(-manifest.dimension // 8)
    else:
        fits = fits and index.metric_type == faiss.METRIC_INNER_PRODUCT
    if not (fits and isinstance(index, type_of(manifest.kind, manifest.precision))):
        raise _unlike(path, manifest)
    return index


def _unlike(path: Path, manifest: Manifest) -> InputError:
    """Say in what a FAISS file differs from what the manifest says."""
    with _opened(path) as file:
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return InputError(f"{path} cannot be read (it is too short); make the index again")
    kind, dimension, vectors, _, _, _, metric = _HEAD.unpack(head)
    if kind.startswith(b"IB"):  # of bits: its head is another one
        return _other(path)
    if (vectors, dimension) != (manifest.passages, manifest.dimension):
        return InputError(
            f"{path} has {vectors} vectors of {dimension} dimensions, but {_MANIFEST} says {manifest.passages} of "
            f"{manifest.dimension}; make the index again"
        )
    if metric:
        return InputError(f"{path} measures distances (L2), not cosines; make the index again")
    return _other(path)


def _read_lines(path: Path, parsed: Callable[[Any], _Parsed]) -> tuple[list[_Parsed], str]:
    """The objects of a file of JSON lines, and the file's digest."""
    found: list[_Parsed] = []
    sha = hashlib.sha256()
    try:
        with _opened(path) as file:
            for line in file:
                sha.update(line)
                found.append(parsed(json.loads(line.decode())))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read ({error}); make the index again") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, TypeError, RecursionError) as error:
        reason = f"{path}:{len(found) + 1} cannot be read ({error}); make the index again"
        raise InputError(reason) from error
    return found, sha.hexdigest()


def _passage(content: Any) -> Passage:
    passage = Passage(**content)
    if not (isinstance(passage.source, str) and isinstance(passage.text, str)):
        raise TypeError("source and text must be strings")
    return passage


def _origin(content: Any) -> Origin:
    origin = Origin(**content)
    if not isinstance(origin.passages, int) or origin.passages < 0:
        raise TypeError(f"passages={origin.passages!r}")
    return origin


def read_manifest(folder: Path) -> Manifest:
    """What an index was made with.

    Raises:
        InputError: the folder is no index, or a newer one, or its manifest is damaged.
    """
    try:
        with _opened(current(folder) / _MANIFEST) as file:
            content = json.loads(file.read().decode())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} is not an index; make one with: echo-embeddings index FOLDER {folder}") from None
    except OSError as error:
        raise _unreadable(folder / _MANIFEST, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder}: its {_MANIFEST} cannot be read ({error}); make the index again") from error
    version = content.get("format") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise InputError(f"{folder} was made by a newer echo-embeddings; update it, {from_checkout('.', age='newer')}")
    try:
        manifest = Manifest(**content)
        _check(manifest)
    except TypeError as error:
        raise InputError(f"{folder}: its {_MANIFEST} cannot be read ({error}); make the index again") from error
    return manifest


def _check(manifest: Manifest) -> None:
    """Check the types of what was read: ``Manifest`` is not checked where it is made."""
    kinds: dict[str, Any] = dict.fromkeys(("model_name", "config"), str) | {"digests": dict}
    kinds |= dict.fromkeys(("model", "weights"), str | None)
    kinds |= dict.fromkeys(("passages", "dimension", "format"), int)
    for name, kind in kinds.items():
        value = getattr(manifest, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name}={value!r}")
    known = {"kind": tuple(KINDS), "precision": tuple(PRECISIONS), "long_texts": LONG_TEXTS, "metric": (_METRIC,)}
    for name, choices in known.items():
        if getattr(manifest, name) not in choices:
            raise TypeError(f"{name}={getattr(manifest, name)!r}")
    if not isinstance(manifest.late_chunking, bool):
        raise TypeError(f"late_chunking={manifest.late_chunking!r}")
    if missing := [name for name in _PARTS if not isinstance(manifest.digests.get(name), str)]:
        raise TypeError(f"it has no digest of {missing[0]}")


def _require(path: Path, digest: str, manifest: Manifest) -> None:
    if digest != manifest.digests[path.name]:
        raise _other(path)


def _other(path: Path) -> InputError:
    return InputError(
        f"{path} and {_MANIFEST} do not belong together: one was damaged, was changed, or is from another index; make "
        "the index again"
    )


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    try:
        with _opened(path) as file:
            while block := file.read(_BLOCK):
                sha.update(block)
    except OSError as error:
        raise _unreadable(path, error) from error
    return sha.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read, and nothing else: to open a pipe would wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "it is no file", str(path))
    with path.open("rb") as file:
        yield file


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read ({error.strerror or error}); make the index again")
