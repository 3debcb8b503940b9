"""An index of passages: their vectors in FAISS, the passages themselves, and what embeds a question alike."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
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
from echo_embeddings.text.inputs import elements
from echo_embeddings.text.truncation import one_call
from echo_embeddings.types import Vectors, require_chunking, require_encoder, require_whole

from . import storage
from . import vectors as faiss_vectors
from .storage import Manifest, Origin, Stored
from .update import Plan, Update, plan

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Hit", "Index"]

# HNSW: wider searches find more and take longer.
_WIDTH_TO_SEARCH = 128

# Passages embedded and put into the index together.
_CHUNK = 1024

# Cosine of a passage's vector in the index and one made now. Other number types and 8-bit weights stay above 0.99.
_ALIKE = 0.95
# The same, where the index has only bits: the cosine of a turned vector with its signs is about 0.8.
_ALIKE_IN_BITS = 0.6


@dataclass(frozen=True)
class Hit:
    """One answer.

    Attributes:
        rank: its place, from 1.
        score: cosine of its vector and the question's, -1 to 1. Compare it with other scores of the same model and
            config only. With the default config a good hit lies at about 0.4, and unlike texts at 0.15 to 0.26.
        source: where the passage stands.
        passage: its text.
    """

    rank: int
    score: float
    source: str
    passage: str


class Index:
    """Passages that can be searched.

    Make one of passages with :meth:`build`, or of files with :meth:`empty` and :meth:`update`; read one with
    :meth:`load`.

    >>> from echo_embeddings import EchoEncoder
    >>> from echo_embeddings.search import Index
    >>> index = Index.build(["The ferry leaves at dawn.", "Bread needs a hot oven."], EchoEncoder())
    >>> index.search("When does the boat go?", k=1)[0].passage
    'The ferry leaves at dawn.'
    """

    def __init__(self, stored: Stored, encoder: EchoEncoder | None) -> None:
        self._made_with, self._config = stored.manifest, stored.config
        self._faiss, self._passages, self._origins = stored.vectors, stored.passages, stored.origins
        self._encoder = None if encoder is None else _in_float32(encoder)

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage | str],
        encoder: EchoEncoder,
        *,
        kind: str = "exact",
        precision: str | None = None,
        show_progress: bool | Callable[[int], object] = False,
    ) -> Self:
        """Embed passages and index them.

        Args:
            passages: what is searched in. A string is a passage whose source is its number, from 0.
            encoder: embeds passages as documents, and questions as queries.
            kind: ``"exact"`` compares a question with every passage; ``"hnsw"`` follows a graph of neighbours, which is
                faster from some 100,000 passages on and misses a few.
            precision: how vectors are kept: ``"float32"``, ``"float16"``, ``"int8"`` or ``"ubinary"`` (a bit a
                dimension, exact kind only; the best candidates are compared once more with the question's own
                numbers). ``None`` for the encoder's. What each saves and costs: docs/guides/smaller-vectors.md.
            show_progress: show a progress bar, or a function to call with the number of passages in each batch.

        Raises:
            InputError: ``kind`` or ``precision`` is unknown, or there are no passages.
            ImportError: FAISS is missing.
        """
        _require_kind(kind, precision)
        listed = _listed(passages, 0)
        if not listed:
            raise InputError("there are no passages to index; give at least one")
        index = cls.empty(encoder, kind=kind, precision=precision)
        index.add(listed, show_progress=show_progress)
        return index

    @classmethod
    def empty(
        cls, encoder: EchoEncoder, *, kind: str = "exact", precision: str | None = None, late_chunking: bool = False
    ) -> Self:
        """Make an index without passages, for :meth:`update` or :meth:`add`.

        Args:
            encoder: as for :meth:`build`.
            kind: as for :meth:`build`.
            precision: as for :meth:`build`.
            late_chunking: read each file as a whole, so that the vector of a passage has seen what stands around it
                (:meth:`EchoEncoder.encode_chunks`). Such an index takes files only.

        Raises:
            InputError: ``kind`` or ``precision`` is unknown.
            ConfigError: the encoder's config has no vectors for chunks (``EchoConfig.require_chunking``).
            TypeError: ``encoder`` is none, or has no ``encode_chunks`` for late chunking.
            ImportError: FAISS is missing.
        """
        require_encoder(encoder)
        if late_chunking:
            require_chunking(encoder)
            encoder.config.require_chunking()  # where a hub had to be asked for it
        precision = str(precision or getattr(encoder, "precision", "float32"))
        _require_kind(kind, precision)
        manifest = Manifest(
            model=_location(encoder.model_name),
            model_name=encoder.model_name,
            config=encoder.config.fingerprint(),
            passages=0,
            dimension=encoder.dimension,
            kind=kind,
            precision=precision,
            long_texts=_long_texts(encoder),
            late_chunking=late_chunking,
            weights=_weights(encoder),
        )
        ranges = encoder.config.ranges
        limits = None if ranges is None else ranges.of(encoder.dimension)
        vectors = faiss_vectors.empty(kind, encoder.dimension, precision, limits)
        return cls(Stored(manifest, encoder.config, vectors, [], []), encoder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], encoder: EchoEncoder | None = None) -> Self:
        """Read what :meth:`save` wrote. Beside a writer it is the index before or the one after, whole.

        Args:
            folder: the index.
            encoder: the encoder that it was made with; ``None`` makes it, at the first question by text, of the model
                that the index names.

        Raises:
            InputError: it is no index, or a newer one; a file is damaged, was changed, or is of another index; or the
                encoder has another model, other weights or another config.
            ImportError: FAISS is missing.
        """
        require("faiss", "faiss", "searching")
        folder = Path(folder).expanduser()
        index = cls(storage.read(folder), None)
        if encoder is not None:
            require_encoder(encoder)
            _require_same_encoder(str(folder), index._made_with, encoder)
            index._encoder = _in_float32(encoder)
        return index

    def add(self, passages: Iterable[Passage | str], *, show_progress: bool | Callable[[int], object] = False) -> None:
        """Embed more passages and put them behind those that are there. An index on disk changes with :meth:`save`.

        Args:
            passages: as for :meth:`build`.
            show_progress: as for :meth:`build`.

        Raises:
            InputError: the index has late chunking, and passages alone do not tell which document they are from.
        """
        if self._made_with.late_chunking:
            raise InputError(
                "the index has late chunking, and needs the files that passages are from: use update(folder); or make "
                "vectors with EchoEncoder.encode_chunks, for an index of your own"
            )
        listed = _listed(passages, len(self))
        with one_call(), progress(len(listed), show_progress) as advance:
            for chunk in _chunks(listed):
                vectors = _array(self.encoder.encode_documents([p.text for p in chunk], show_progress=advance))
                before = len(self)
                try:
                    self._passages += chunk
                    self._faiss = self._added(self._faiss, vectors)
                finally:  # passages and vectors stay together, whenever Ctrl-C is pressed
                    del self._passages[self._faiss.ntotal :]
                    self._origins = [*self._origins, Origin(len(self) - before)]

    def compare(self, root: str | os.PathLike[str]) -> Plan:
        """Find out what :meth:`update` would do. Nothing is embedded.

        Arguments and errors as there.
        """
        if len(self) and not any(origin.name is not None for origin in self._origins):
            raise InputError(
                "the index was built of passages, and does not know which files they are from; make a new one: "
                "Index.empty(encoder).update(folder)"
            )
        return plan(Path(root).expanduser(), self._origins)

    def update(
        self, root: str | os.PathLike[str] | Plan, *, show_progress: bool | Callable[[int], object] = False
    ) -> Update:
        """Bring the index in line with a folder: embed new and changed files, drop the passages of removed ones.

        The vectors of files whose content is as it was are kept, and so are passages that came by :meth:`add`. After an
        error the index is as it was. An index on disk changes with :meth:`save`.

        Args:
            root: a folder of text, Markdown, reStructuredText, HTML, PDF and Python files, or one such file; or what
                :meth:`compare` returned.
            show_progress: as for :meth:`build`.

        Returns:
            Which files were new, changed, removed or skipped.

        Raises:
            InputError: there is nothing to read; it is one file, and the index has others; the index was made of
                passages and does not know their files; or it changed since :meth:`compare`.
            OSError: there is nothing of that name.
        """
        planned = root if isinstance(root, Plan) else self.compare(root)
        if planned.before != self._origins:
            raise InputError("the index changed since it was compared with the folder; compare it again")
        if planned.changes_nothing:
            return planned.update
        fresh, vectors = planned.passages, self._kept(planned)
        with one_call(), progress(len(fresh), show_progress) as advance:
            for some in self._embedded(planned, advance):
                vectors = self._added(vectors, _array(some))
        kept = [self._passages[row] for _, rows in planned.kept for row in rows]
        origins = [origin for origin, _ in [*planned.kept, *planned.fresh]]
        self._faiss, self._passages, self._origins = vectors, kept + fresh, origins
        return planned.update

    def _embedded(self, planned: Plan, advance: Callable[[int], object]) -> Iterator[Vectors]:
        """The vectors of a plan's new passages, in their order."""
        if not self._made_with.late_chunking:
            for chunk in _chunks(planned.passages):
                yield self.encoder.encode_documents([passage.text for passage in chunk], show_progress=advance)
            return
        for _, passages in planned.fresh:
            if passages:
                yield self.encoder.encode_chunks(*_joined([passage.text for passage in passages]))
            advance(len(passages))

    def _added(self, index: Any, vectors: Vectors) -> Any:
        """A FAISS index with these vectors behind its own; it may be another object."""
        made_with, ranges = self._made_with, self._config.ranges
        keeps_ranges = ranges is not None and ranges.of(self.dimension) is not None
        return faiss_vectors.add(index, vectors, made_with.kind, made_with.precision, keeps_ranges=keeps_ranges)

    def _kept(self, planned: Plan) -> Any:
        """A new FAISS index with the vectors that are kept."""
        if planned.keeps_all:
            return faiss_vectors.clone(self._faiss)
        vectors = faiss_vectors.empty_like(self._faiss, self._made_with.kind, self._made_with.precision)
        for _, rows in planned.kept:
            for start in range(rows.start, rows.stop, _CHUNK):
                vectors.add(self._faiss.reconstruct_n(start, min(_CHUNK, rows.stop - start)))
        return vectors

    @overload
    def search(self, question: str, k: int = ...) -> list[Hit]: ...

    @overload
    def search(self, question: list[str] | tuple[str, ...], k: int = ...) -> list[list[Hit]]: ...

    @overload
    def search(self, question: Vectors, k: int = ...) -> list[Any]: ...

    def search(self, question: str | list[str] | tuple[str, ...] | Vectors, k: int = 5) -> list[Any]:
        """Find the passages nearest to a question, or to each of several.

        Args:
            question: a text, a list or column of texts, a query vector ``[dimension]``, or several ``[n, dimension]``.
            k: how many passages; fewer if the index has fewer.

        Returns:
            Hits, the nearest first; for several questions a list of them for each.

        Raises:
            InputError: ``k`` is no whole number of at least 1, or vectors have another dimension, NaN or infinity.
        """
        require_whole("k", k, InputError)
        vectors = self._vectors(question)
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != self.dimension:
            raise InputError(
                f"query vectors have the shape {list(vectors.shape)}, but the index has {self.dimension} "
                "dimensions; embed questions with the index's own encoder"
            )
        if not np.isfinite(vectors).all():
            raise InputError("query vectors hold NaN or infinity, and are near to no passage; embed the question again")
        if not len(vectors):
            return []
        if not len(self):
            raise InputError("the index is empty; add passages, or update it with a folder of files")
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
        stored = Stored(self.manifest, self._config, self._faiss, self._passages, self._origins)
        storage.write(Path(folder).expanduser(), stored)

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
        return replace(self._made_with, passages=len(self))

    @property
    def config(self) -> EchoConfig:
        """The echo config that it was made with."""
        return self._config

    @property
    def encoder(self) -> EchoEncoder:
        """What embeds passages and questions; made at the first use, where none was given.

        One can be set: it must have the model, the weights and the config that the index was made with. Device, dtype
        and how fast it runs do not matter.

        Raises:
            InputError: the index was made with a model in memory, or the model now gives other vectors; or the encoder
                that is set is another one.
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
            encoder = EchoEncoder(made_with.model, self._config, on_truncate=made_with.on_truncate)
            _require_same_encoder("the index", made_with, encoder)
            self._require_same_vectors(encoder)
            self._encoder = encoder
        return self._encoder

    @encoder.setter
    def encoder(self, encoder: EchoEncoder) -> None:
        _require_same_encoder("the index", self._made_with, encoder)
        self._encoder = _in_float32(encoder)

    def _vectors(self, question: str | list[str] | tuple[str, ...] | Vectors) -> Vectors:
        if isinstance(question, np.ndarray) and question.dtype.kind == "f":
            return question
        if isinstance(question, np.ndarray) and question.dtype.kind in "biu":
            raise InputError(
                f"query vectors are {question.dtype} {list(question.shape)}, and an index compares whole numbers only "
                "with its own; give those of encoder.with_precision('float32'), or encoder.restored(vectors)"
            )
        return self.encoder.encode_queries(question)

    def _hits(self, scores: list[float], rows: list[int]) -> list[Hit]:
        found = [(score, self._passages[row]) for score, row in zip(scores, rows, strict=True) if row >= 0]
        return [Hit(rank, score, passage.source, passage.text) for rank, (score, passage) in enumerate(found, start=1)]

    def _require_same_vectors(self, encoder: EchoEncoder) -> None:
        """Embed one passage again: weights in a folder may have been changed, or an adapter may be missing."""
        if not len(self):
            return
        row, vector = self._embedded_again(encoder)
        cosine = float(vector @ self._faiss.reconstruct(row))
        if cosine < (_ALIKE if self._made_with.precision != "ubinary" else _ALIKE_IN_BITS):
            raise InputError(
                f"{encoder.model_name} gives other vectors than those of the index (cosine {cosine:.2f} for the "
                f"passage {self._passages[row].source}): its weights were changed, or the encoder had an adapter of "
                "its own. Give that encoder: Index.load(folder, encoder), or make the index again"
            )

    def _embedded_again(self, encoder: EchoEncoder) -> tuple[int, Vectors]:
        """A row of the index, and the vector of its passage: with late chunking from all of the shortest file."""
        if not self._made_with.late_chunking:
            return 0, encoder.encode_documents(self._passages[0].text)
        ends = accumulate(origin.passages for origin in self._origins)
        rows = [range(end - one.passages, end) for one, end in zip(self._origins, ends, strict=True) if one.passages]
        files = [(some.start, [self._passages[row].text for row in some]) for some in rows]
        row, texts = min(files, key=lambda file: sum(map(len, file[1])))
        return row, encoder.encode_chunks(*_joined(texts))[0]


def _listed(passages: Iterable[Passage | str], first: int) -> list[Passage]:
    given = enumerate(elements(passages, "passages"), first)
    listed: list[Any] = [Passage(str(i), item) if isinstance(item, str) else item for i, item in given]
    for position, passage in enumerate(listed):
        if not isinstance(passage, Passage):
            raise TypeError(f"passages[{position}] is {type(passage).__name__}, not a Passage or a text")
        if not (isinstance(passage.source, str) and isinstance(passage.text, str)):
            raise TypeError(f"passages[{position}] is {passage!r:.80}; source and text must be strings")
    return listed


def _joined(texts: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """A document of passages, with a blank line between them, and where each stands in it."""
    spans, end = [], 0
    for text in texts:
        spans.append((end, end + len(text)))
        end += len(text) + 2
    return "\n\n".join(texts), spans


def _chunks(passages: list[Passage]) -> Iterator[list[Passage]]:
    for start in range(0, len(passages), _CHUNK):
        yield passages[start : start + _CHUNK]


def _require_kind(kind: str, precision: str | None) -> None:
    require("faiss", "faiss", "indexing")
    faiss_vectors.require_kind(kind, precision or "float32")


def _in_float32(encoder: EchoEncoder) -> EchoEncoder:
    """The encoder with whole vectors: the index itself makes them smaller, and questions stay as they are."""
    return encoder.with_precision("float32") if getattr(encoder, "precision", "float32") != "float32" else encoder


def _weights(encoder: EchoEncoder) -> str | None:
    """The fingerprint of an encoder's weights; ``None`` for another embedder, which need not have one."""
    found = getattr(encoder, "weights_fingerprint", None)
    return None if found is None else str(found())


def _long_texts(encoder: EchoEncoder) -> str:
    """What becomes of texts that are longer than the model reads."""
    options = getattr(encoder, "options", None)
    return "split" if options is not None and options.on_truncate == "split" else "truncated"


def _location(model_name: str) -> str | None:
    """Where another process finds the model: ``None`` for the built-in one, an absolute path, or a hub id."""
    if model_name == builtin.NAME:
        return None
    path = Path(model_name).expanduser()
    return str(path.resolve()) if path.exists() else model_name


def _array(vectors: Vectors) -> Vectors:
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _require_same_encoder(name: str, manifest: Manifest, encoder: EchoEncoder) -> None:
    """Refuse an encoder whose vectors cannot be compared. Weights are compared by content, so a model may be moved."""
    weights = _weights(encoder)
    known = weights is not None and manifest.weights is not None
    same_place = _location(encoder.model_name) == manifest.model
    if known and weights != manifest.weights and same_place:
        raise InputError(
            f"{name} was made with other weights than {encoder.model_name} has now: the model was changed or trained "
            "further since, or the encoder has another adapter. Bring back those weights, or make the index again"
        )
    if (known and weights != manifest.weights) or not (known or same_place):
        raise InputError(
            f"{name} was made with {manifest.model_name}, and vectors of {encoder.model_name} cannot be compared "
            "with it; leave the encoder out, or make the index again"
        )
    if (now := _long_texts(encoder)) != manifest.long_texts:
        wanted = manifest.on_truncate
        raise InputError(
            f"{name} was made of long passages {manifest.long_texts}, and the encoder has them {now}; give it "
            f"on_truncate={wanted!r} (--on-truncate {wanted}), or make the index again"
        )
    if encoder.config.fingerprint() != manifest.config:
        raise InputError(
            f"{name} was made with another config than that of the encoder; leave the encoder out, give one with "
            "EchoConfig.load(folder), or make the index again"
        )
