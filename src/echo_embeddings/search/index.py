"""An index of passages: their vectors in FAISS, the passages themselves, and what embeds a question alike."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.data.passages import Passage
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.engine.progress import progress
from echo_embeddings.errors import InputError
from echo_embeddings.extras import require
from echo_embeddings.model import builtin
from echo_embeddings.types import Vectors

from . import storage
from .storage import Manifest

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Hit", "Index"]

# HNSW: more links and wider searches find more and take longer.
_LINKS, _WIDTH_TO_BUILD, _WIDTH_TO_SEARCH = 32, 200, 128

# Passages embedded and put into the index together.
_CHUNK = 1024

# Cosine of a passage's vector in the index and one made now. Other number types and 8-bit weights stay above 0.99.
_ALIKE = 0.95


@dataclass(frozen=True)
class Hit:
    """One answer.

    Attributes:
        rank: its place, from 1.
        score: cosine of its vector and the question's, -1 to 1.
        source: where the passage stands.
        passage: its text.
    """

    rank: int
    score: float
    source: str
    passage: str


class Index:
    """Passages that can be searched. Make one with :meth:`build` or :meth:`load`.

    >>> from echo_embeddings import EchoEncoder
    >>> from echo_embeddings.search import Index
    >>> index = Index.build(["The ferry leaves at dawn.", "Bread needs a hot oven."], EchoEncoder())
    >>> index.search("When does the boat go?", k=1)[0].passage
    'The ferry leaves at dawn.'
    """

    def __init__(
        self, faiss_index: Any, passages: list[Passage], manifest: Manifest, config: EchoConfig, encoder: Any
    ) -> None:
        self._faiss, self._passages, self._made_with, self._config = faiss_index, passages, manifest, config
        self._encoder: EchoEncoder | None = encoder

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage | str],
        encoder: EchoEncoder,
        *,
        kind: str = "exact",
        show_progress: bool | Callable[[int], object] = False,
    ) -> Self:
        """Embed passages and index them.

        Args:
            passages: what is searched in. A string is a passage whose source is its number, from 0.
            encoder: embeds passages as documents, and questions as queries.
            kind: ``"exact"`` compares a question with every passage; ``"hnsw"`` follows a graph of neighbours, which is
                faster from some 100,000 passages on and misses a few.
            show_progress: show a progress bar, or a function to call with the number of passages in each batch.

        Raises:
            InputError: ``kind`` is unknown, or there are no passages.
            ImportError: FAISS is missing.
        """
        require("faiss", "faiss", "indexing")
        if kind not in storage.KINDS:
            choices = "; ".join(f"{name} ({what})" for name, what in storage.KINDS.items())
            raise InputError(f"kind={kind!r} is unknown; choose one of: {choices}")
        listed = _listed(passages, 0)
        if not listed:
            raise InputError("there are no passages to index; give at least one")
        manifest = Manifest(
            model=_location(encoder.model_name),
            model_name=encoder.model_name,
            config=encoder.config.fingerprint(),
            passages=0,
            dimension=encoder.dimension,
            kind=kind,
        )
        index = cls(_empty(kind, encoder.dimension), [], manifest, encoder.config, encoder)
        index.add(listed, show_progress=show_progress)
        return index

    @classmethod
    def load(cls, folder: str | os.PathLike[str], encoder: EchoEncoder | None = None) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            folder: the index.
            encoder: the encoder that it was made with; ``None`` makes it, at the first question by text, of the model
                that the index names.

        Raises:
            InputError: it is no index, or a newer one; a file is damaged or was changed; or the encoder has another
                model or config.
            ImportError: FAISS is missing.
        """
        require("faiss", "faiss", "searching")
        folder = Path(folder).expanduser()
        manifest = storage.read_manifest(folder)
        config = EchoConfig.load(folder)
        if config.fingerprint() != manifest.config:
            raise InputError(
                f"{folder}: its echo_config.json, or the packaged adapter that this names, is not the one it was made "
                "with; make the index again"
            )
        if encoder is not None:
            _require_same_encoder(folder, manifest, encoder)
        vectors, passages = storage.read_vectors(folder, manifest), storage.read_passages(folder, manifest)
        return cls(vectors, passages, manifest, config, encoder)

    def add(self, passages: Iterable[Passage | str], *, show_progress: bool | Callable[[int], object] = False) -> None:
        """Embed more passages and put them behind those that are there. An index on disk changes with :meth:`save`.

        Args:
            passages: as for :meth:`build`.
            show_progress: as for :meth:`build`.
        """
        listed = _listed(passages, len(self))
        with progress(len(listed), show_progress) as advance:
            for start in range(0, len(listed), _CHUNK):
                chunk = listed[start : start + _CHUNK]
                vectors = self.encoder.encode_documents([passage.text for passage in chunk], show_progress=advance)
                self._faiss.add(_array(vectors))
                self._passages += chunk

    @overload
    def search(self, question: str, k: int = ...) -> list[Hit]: ...

    @overload
    def search(self, question: list[str] | tuple[str, ...], k: int = ...) -> list[list[Hit]]: ...

    @overload
    def search(self, question: Vectors, k: int = ...) -> list[Any]: ...

    def search(self, question: str | list[str] | tuple[str, ...] | Vectors, k: int = 5) -> list[Any]:
        """Find the passages nearest to a question, or to each of several.

        Args:
            question: a text, a list of texts, a query vector ``[dimension]``, or several ``[n, dimension]``.
            k: how many passages; fewer if the index has fewer.

        Returns:
            Hits, the nearest first; for several questions a list of them for each.

        Raises:
            InputError: ``k`` is below 1, or vectors have another dimension.
        """
        if k < 1:
            raise InputError(f"k={k}: give at least 1")
        vectors = self._vectors(question)
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != self.dimension:
            raise InputError(
                f"query vectors have the shape {list(vectors.shape)}, but the index has {self.dimension} "
                "dimensions; embed questions with the index's own encoder"
            )
        if not len(vectors):
            return []
        several = np.atleast_2d(vectors)
        if self._made_with.kind == "hnsw":
            self._faiss.hnsw.efSearch = max(_WIDTH_TO_SEARCH, 2 * k)
        scores, rows = self._faiss.search(_array(several), min(k, len(self)))
        hits = [self._hits(*found) for found in zip(scores.tolist(), rows.tolist(), strict=True)]
        return hits if vectors.ndim == 2 else hits[0]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the index to a folder, whole or not at all; an index that is there is replaced.

        Raises:
            InputError: the folder is there and is no index.
        """
        storage.write(Path(folder).expanduser(), self._faiss, self._passages, self.manifest, self._config)

    def __len__(self) -> int:
        """The number of passages."""
        return len(self._passages)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._faiss.d)

    @property
    def manifest(self) -> Manifest:
        """What the index was made with, and how many passages it has."""
        return Manifest(**asdict(self._made_with) | {"passages": len(self)})

    @property
    def config(self) -> EchoConfig:
        """The echo config that it was made with."""
        return self._config

    @property
    def encoder(self) -> EchoEncoder:
        """What embeds passages and questions; made at the first use, where none was given.

        Raises:
            InputError: the index was made with a model in memory, or the model now gives other vectors.
        """
        if self._encoder is None:
            made_with = self._made_with
            if (
                made_with.model is not None
                and re.match(r"\w+:", made_with.model)
                and not Path(made_with.model).exists()
            ):
                raise InputError(
                    f"the index was made with a model in memory ({made_with.model_name}); give its encoder: "
                    "Index.load(folder, encoder)"
                )
            encoder = EchoEncoder(made_with.model, self._config)
            self._require_same_vectors(encoder)
            self._encoder = encoder
        return self._encoder

    def _vectors(self, question: str | list[str] | tuple[str, ...] | Vectors) -> Vectors:
        if isinstance(question, np.ndarray) and question.dtype.kind == "f":
            return question
        return self.encoder.encode_queries(question if isinstance(question, str) else list(question))

    def _hits(self, scores: list[float], rows: list[int]) -> list[Hit]:
        found = [(score, self._passages[row]) for score, row in zip(scores, rows, strict=True) if row >= 0]
        return [Hit(rank, score, passage.source, passage.text) for rank, (score, passage) in enumerate(found, start=1)]

    def _require_same_vectors(self, encoder: EchoEncoder) -> None:
        """Embed one passage again: weights in a folder may have been changed, or an adapter may be missing."""
        cosine = float(encoder.encode_documents(self._passages[0].text) @ self._faiss.reconstruct(0))
        if cosine < _ALIKE:
            raise InputError(
                f"{encoder.model_name} gives other vectors than those of the index (cosine {cosine:.2f} for the first "
                "passage): its weights were changed, or the encoder had an adapter of its own. Give that encoder: "
                "Index.load(folder, encoder), or make the index again"
            )


def _listed(passages: Iterable[Passage | str], first: int) -> list[Passage]:
    if isinstance(passages, str | bytes | dict):
        raise TypeError(f"passages must be a list of passages or of texts, not {type(passages).__name__}")
    listed = [Passage(str(i), item) if isinstance(item, str) else item for i, item in enumerate(passages, first)]
    for position, passage in enumerate(listed):
        if not isinstance(passage, Passage):
            raise TypeError(f"passages[{position}] is {type(passage).__name__}, not a Passage or a text")
    return listed


def _location(model_name: str) -> str | None:
    """Where another process finds the model: ``None`` for the built-in one, an absolute path, or a hub id."""
    if model_name == builtin.NAME:
        return None
    path = Path(model_name).expanduser()
    return str(path.resolve()) if path.exists() else model_name


def _empty(kind: str, dimension: int) -> Any:
    import faiss

    if kind == "exact":
        return faiss.IndexFlatIP(dimension)
    graph = faiss.IndexHNSWFlat(dimension, _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _WIDTH_TO_BUILD
    return graph


def _array(vectors: Vectors) -> Vectors:
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _require_same_encoder(folder: Path, manifest: Manifest, encoder: EchoEncoder) -> None:
    if _location(encoder.model_name) != manifest.model:
        raise InputError(
            f"{folder} was made with {manifest.model_name}, and vectors of {encoder.model_name} cannot be compared "
            "with it; leave the encoder out, or make the index again"
        )
    if encoder.config.fingerprint() != manifest.config:
        raise InputError(
            f"{folder} was made with another config than that of the encoder; leave the encoder out, give one with "
            "EchoConfig.load(folder), or make the index again"
        )
