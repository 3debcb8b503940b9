"""An index on disk: vectors in a FAISS file, the passages beside it, and what is needed to embed a question alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.data.files import whole_folder
from echo_embeddings.data.passages import Passage
from echo_embeddings.errors import InputError
from echo_embeddings.extras import require

__all__ = ["Hit", "Index", "Manifest", "save_index"]

Vectors = NDArray[np.float32]

FORMAT = 1
_MANIFEST, _PASSAGES, _FAISS = "manifest.json", "passages.jsonl", "index.faiss"


@dataclass(frozen=True)
class Manifest:
    """What an index was made with.

    Attributes:
        model: hub id or absolute path; ``None`` for the built-in model.
        model_name: the same for people.
        config: fingerprint of the echo config that lies beside.
        passages: how many there are.
        dimension: length of a vector.
    """

    model: str | None
    model_name: str
    config: str
    passages: int
    dimension: int
    format: int = FORMAT


@dataclass(frozen=True)
class Hit:
    """One answer: its place from 1, its cosine with the question, and the passage."""

    rank: int
    score: float
    source: str
    passage: str


@dataclass(frozen=True)
class Index:
    """A saved index, opened for questions.

    Attributes:
        folder: where it lies.
        manifest: what it was made with.
        config: the echo config it was made with.
    """

    folder: Path
    manifest: Manifest
    config: EchoConfig

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Open what ``save_index`` wrote.

        Raises:
            InputError: it is no index, a newer one, or its config was changed.
        """
        require("faiss", "faiss", "searching")
        manifest = _read_manifest(folder)
        config = EchoConfig.load(folder)
        if config.fingerprint() != manifest.config:
            raise InputError(
                f"{folder}: its echo_config.json, or the packaged adapter that this names, is not the one it was made "
                "with; make the index again"
            )
        return cls(folder, manifest, config)

    def search(self, query: Vectors, k: int) -> list[Hit]:
        """The ``k`` passages, or all if there are fewer, whose vectors ``[dim]`` are nearest to the query's."""
        import faiss

        index = faiss.read_index(str(self.folder / _FAISS))
        scores, rows = index.search(query[np.newaxis], min(k, self.manifest.passages))
        found = self._passages(rows[0].tolist())
        return [
            Hit(rank, float(score), found[row].source, found[row].text)
            for rank, (score, row) in enumerate(zip(scores[0], rows[0].tolist(), strict=True), start=1)
        ]

    def _passages(self, rows: Sequence[int]) -> dict[int, Passage]:
        wanted = set(rows)
        with (self.folder / _PASSAGES).open(encoding="utf-8") as file:
            return {row: Passage(**json.loads(line)) for row, line in enumerate(file) if row in wanted}


def save_index(
    folder: Path,
    passages: Sequence[Passage],
    vectors: Iterable[Vectors],
    config: EchoConfig,
    model: tuple[str | None, str],
) -> Manifest:
    """Write an index, whole or not at all; one that is there is replaced.

    Args:
        folder: where to.
        passages: what is searched.
        vectors: their unit vectors in windows ``[n, dim]``, in the same order.
        config: what the vectors were made with.
        model: the same; where it is loaded from (``None`` for the built-in model), and its name.

    Raises:
        InputError: the folder is there and is no index.
    """
    require("faiss", "faiss", "indexing")
    require_replaceable(folder)
    import faiss

    index: Any = None
    for window in vectors:
        index = faiss.IndexFlatIP(window.shape[1]) if index is None else index
        index.add(window)
    if index is None or index.ntotal != len(passages):
        raise InputError(f"{len(passages)} passages need as many vectors, at least one")
    manifest = Manifest(*model, config.fingerprint(), len(passages), index.d)
    with whole_folder(folder) as work:
        faiss.write_index(index, str(work / _FAISS))
        with (work / _PASSAGES).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(passage), ensure_ascii=False) + "\n" for passage in passages)
        config.save(work)
        (work / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    return manifest


def require_replaceable(folder: Path) -> None:
    """Refuse to write over anything that is not an index.

    Raises:
        InputError: there is something else.
    """
    if folder.exists() and not (folder / _MANIFEST).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an index; choose another place")


def _read_manifest(folder: Path) -> Manifest:
    try:
        content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} is not an index; make one with: echo-embeddings index FOLDER {folder}") from None
    except ValueError as error:
        raise InputError(f"{folder}: its {_MANIFEST} cannot be read ({error}); make the index again") from error
    if not isinstance(content, dict) or content.get("format", 0) > FORMAT:
        raise InputError(f"{folder} was made by a newer echo-embeddings; run pip install -U echo-embeddings")
    try:
        return Manifest(**content)
    except TypeError as error:
        raise InputError(f"{folder}: its {_MANIFEST} cannot be read ({error}); make the index again") from error
