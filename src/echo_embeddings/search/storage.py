"""An index on disk: ``index.faiss``, ``passages.jsonl``, ``manifest.json`` and the echo config, in one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.data.files import whole_folder
from echo_embeddings.data.passages import Passage
from echo_embeddings.errors import InputError

__all__ = ["KINDS", "Manifest", "read_manifest", "read_passages", "read_vectors", "require_replaceable", "write"]

FORMAT = 1
_MANIFEST, _PASSAGES, _FAISS = "manifest.json", "passages.jsonl", "index.faiss"

#: Kinds of index, and what each is for.
KINDS = {
    "exact": "compares a question with every passage",
    "hnsw": "follows a graph of neighbours: faster from some 100,000 passages on, and misses a few",
}


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
        format: version of the files.
    """

    model: str | None
    model_name: str
    config: str
    passages: int
    dimension: int
    kind: str = "exact"
    format: int = FORMAT


def require_replaceable(folder: Path) -> None:
    """Refuse to write over anything that is not an index.

    Raises:
        InputError: there is something else.
    """
    if folder.exists() and not (folder / _MANIFEST).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an index; choose another place")


def write(folder: Path, vectors: Any, passages: Sequence[Passage], manifest: Manifest, config: EchoConfig) -> None:
    """Write an index, whole or not at all; one that is there is replaced.

    Args:
        folder: the folder to write.
        vectors: a FAISS index.
        passages: what the vectors are of, in their order.
        manifest: what they were made with.
        config: the same, in full.

    Raises:
        InputError: the folder is there and is no index.
    """
    import faiss

    require_replaceable(folder)
    with whole_folder(folder) as work:
        faiss.write_index(vectors, str(work / _FAISS))
        with (work / _PASSAGES).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(passage), ensure_ascii=False) + "\n" for passage in passages)
        config.save(work)
        (work / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read_vectors(folder: Path, manifest: Manifest) -> Any:
    """The FAISS index of a folder.

    Raises:
        InputError: it cannot be read, or has another size than the manifest says.
    """
    import faiss

    path = folder / _FAISS
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}); make the index again") from error
    if (index.ntotal, index.d) != (manifest.passages, manifest.dimension):
        raise InputError(
            f"{path} has {index.ntotal} vectors of {index.d} dimensions, but {_MANIFEST} says {manifest.passages} of "
            f"{manifest.dimension}; make the index again"
        )
    return index


def read_passages(folder: Path, manifest: Manifest) -> list[Passage]:
    """The passages of an index.

    Raises:
        InputError: they cannot be read, or are not as many as the manifest says.
    """
    path = folder / _PASSAGES
    number, passages = 0, []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                passages.append(_passage(json.loads(line)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); make the index again") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}:{number} cannot be read ({error}); make the index again") from error
    if len(passages) != manifest.passages:
        raise InputError(
            f"{path} has {len(passages)} passages, but {_MANIFEST} says {manifest.passages}; make the index again"
        )
    return passages


def _passage(content: Any) -> Passage:
    passage = Passage(**content)
    if not (isinstance(passage.source, str) and isinstance(passage.text, str)):
        raise TypeError("source and text must be strings")
    return passage


def read_manifest(folder: Path) -> Manifest:
    """What an index was made with.

    Raises:
        InputError: the folder is no index, or a newer one, or its manifest is damaged.
    """
    try:
        content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} is not an index; make one with: echo-embeddings index FOLDER {folder}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder}: its {_MANIFEST} cannot be read ({error}); make the index again") from error
    version = content.get("format") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise InputError(f"{folder} was made by a newer echo-embeddings; run pip install -U echo-embeddings")
    try:
        manifest = Manifest(**content)
        _check(manifest)
    except TypeError as error:
        raise InputError(f"{folder}: its {_MANIFEST} cannot be read ({error}); make the index again") from error
    return manifest


def _check(manifest: Manifest) -> None:
    """Check the types of what was read: ``Manifest`` is not checked where it is made."""
    kinds: dict[str, Any] = dict.fromkeys(("model_name", "config"), str) | {"model": str | None}
    kinds |= dict.fromkeys(("passages", "dimension", "format"), int)
    for field, kind in kinds.items():
        value = getattr(manifest, field)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{field}={value!r}")
    if manifest.kind not in KINDS:
        raise TypeError(f"kind={manifest.kind!r}")
