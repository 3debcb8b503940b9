"""The vectors of an index, in FAISS's types: each kind and precision, behind the few methods that ``Index`` needs.

Those are FAISS's own: ``add``, ``search``, ``reconstruct``, ``reconstruct_n``, ``ntotal``, ``d``, all with float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.errors import InputError
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.precision import PRECISIONS, reduced, restored, turned, widest

__all__ = ["FITTED_ON", "KINDS", "Bits", "add", "clone", "empty", "empty_like", "require_kind", "type_of"]

#: Kinds of index, and what each is for.
KINDS = {
    "exact": "compares a question with every passage",
    "hnsw": "follows a graph of neighbours: faster from some 100,000 passages on, and misses a few",
}

# HNSW: more links and wider searches find more and take longer.
_LINKS, _WIDTH_TO_BUILD = 32, 200
#: The ranges of an "int8" index are fitted on so many vectors, however few are added at once.
FITTED_ON = 1024
# With a bit a dimension: passages that are compared exactly for each one that is wanted, and at least.
_CANDIDATES, _FEWEST = 10, 200


def require_kind(kind: str, precision: str) -> None:
    """Check the names of a kind and of a precision.

    Raises:
        InputError: one is unknown, or they do not go together.
    """
    if kind not in KINDS:
        choices = "; ".join(f"{name} ({what})" for name, what in KINDS.items())
        raise InputError(f"kind={kind!r} is unknown; choose one of: {choices}")
    if precision not in PRECISIONS:
        choices = ", ".join(f"{name} ({what})" for name, what in PRECISIONS.items())
        raise InputError(f"precision={precision!r} is unknown; choose one of: {choices}")
    if kind == "hnsw" and precision == "ubinary":
        raise InputError(
            "precision='ubinary' has no graph: it compares bits with all passages, which is fast; leave kind out, or "
            "choose int8 or float16 for kind='hnsw'"
        )


def empty(kind: str, dimension: int, precision: str = "float32", ranges: Vectors | None = None) -> Any:
    """An index without vectors.

    Args:
        kind: a name in :data:`KINDS`.
        dimension: of the vectors.
        precision: how they are kept.
        ranges: float32 ``[2, dimension]`` for ``"int8"``; ``None`` takes those of the first vectors (:func:`add`).
    """
    import faiss

    if precision == "ubinary":
        return Bits(dimension)
    how, metric = _quantizer(precision), faiss.METRIC_INNER_PRODUCT
    made: Any
    if kind == "exact":
        made = faiss.IndexFlatIP(dimension) if how is None else faiss.IndexScalarQuantizer(dimension, how, metric)
    else:
        flat, small = faiss.IndexHNSWFlat, faiss.IndexHNSWSQ
        made = flat(dimension, _LINKS, metric) if how is None else small(dimension, how, _LINKS, metric)
        made.hnsw.efConstruction = _WIDTH_TO_BUILD
    if ranges is not None and precision == "int8":
        made.train(np.ascontiguousarray(ranges))
    return made


def empty_like(index: Any, kind: str, precision: str) -> Any:
    """An index without vectors that keeps numbers as ``index`` does."""
    return empty(kind, index.d, precision, _limits(index, kind) if precision == "int8" and index.is_trained else None)


def add(index: Any, vectors: Vectors, kind: str, precision: str, *, keeps_ranges: bool = False) -> Any:
    """Add vectors to an index.

    Args:
        index: what to add to.
        vectors: float32 ``[n, dimension]``.
        kind: of the index.
        precision: of the index.
        keeps_ranges: whether the ranges of an ``"int8"`` index are those of the config. Else they are fitted on the
            first :data:`FITTED_ON` vectors: numbers of these that lie beyond them widen them.

    Returns:
        The index with the vectors: the same one, or another where ranges were widened.
    """
    if precision == "int8" and not keeps_ranges:
        index = _holding(index, vectors, kind)
    index.add(vectors)
    return index


def _holding(index: Any, vectors: Vectors, kind: str) -> Any:
    """The index, or while it has few vectors one with the same of them, whose ranges hold other vectors too."""
    if not index.is_trained:
        index.train(np.ascontiguousarray(widest(vectors)))
        return index
    low, high = _limits(index, kind)
    beyond = (vectors.min(axis=0) < low) | (vectors.max(axis=0) > high)
    if index.ntotal >= FITTED_ON or not beyond.any():
        return index
    wider = widest(np.concatenate([np.stack([low, high]), vectors]))
    made = empty(kind, index.d, "int8", np.where(beyond, wider, np.stack([low, high])))
    made.add(index.reconstruct_n(0, index.ntotal))  # where the ranges are as before, the bytes are too
    return made


def _limits(index: Any, kind: str) -> Vectors:
    """The ranges of an ``"int8"`` index: float32 ``[2, dimension]``."""
    import faiss

    flat: Any = index if kind == "exact" else faiss.downcast_index(index.storage)
    low, steps = faiss.vector_to_array(flat.sq.trained).reshape(2, -1)
    return np.stack([low, low + steps])


def clone(index: Any) -> Any:
    """A copy that can be added to while this one is searched."""
    import faiss

    return index.clone() if isinstance(index, Bits) else faiss.clone_index(index)


def type_of(kind: str, precision: str) -> type:
    """FAISS's type for a kind and a precision."""
    import faiss

    if precision == "ubinary":
        return Bits
    types = {
        ("exact", True): faiss.IndexFlat,
        ("hnsw", True): faiss.IndexHNSWFlat,
        ("exact", False): faiss.IndexScalarQuantizer,
        ("hnsw", False): faiss.IndexHNSWSQ,
    }
    found: type = types[kind, precision == "float32"]
    return found


def _quantizer(precision: str) -> Any:
    import faiss

    kinds = {"float16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}
    return kinds.get(precision)


class Bits:
    """Vectors kept as a bit a dimension, in FAISS's ``IndexBinaryFlat``.

    The bits are those of turned vectors (``precision.turned``), whatever the config: an index keeps them for itself.
    The passages whose bits differ least from those of the question are compared once more, with the question's numbers
    as they are: that brings back most of what the bits lose (docs/guides/smaller-vectors.md).

    Args:
        dimension: of the vectors.
        binary: FAISS's index; ``None`` for one without vectors.
    """

    is_trained = True

    def __init__(self, dimension: int, binary: Any = None) -> None:
        import faiss

        self.d = dimension
        self.binary: Any = faiss.IndexBinaryFlat(8 * -(-dimension // 8)) if binary is None else binary

    @property
    def ntotal(self) -> int:
        """The number of vectors."""
        return int(self.binary.ntotal)

    def add(self, vectors: Vectors) -> None:
        """Add float32 ``[n, dimension]``."""
        self.binary.add(reduced(vectors, "ubinary", turns=True))

    def search(self, questions: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """The nearest ``k`` to each of float32 ``[n, dimension]``: cosines, and rows, both ``[n, k]``."""
        candidates, asked = min(self.ntotal, max(_CANDIDATES * k, _FEWEST)), turned(questions)
        _, rows = self.binary.search(reduced(asked, "ubinary"), candidates)
        scores = np.empty((len(rows), candidates), dtype=np.float32)
        for i, found in enumerate(rows):  # both sides are turned, which leaves a cosine as it is
            scores[i] = restored(self._codes[found], "ubinary", self.d) @ asked[i]
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def reconstruct(self, row: int) -> Vectors:
        """One vector, as near as its bits tell: float32 ``[dimension]``."""
        vector: Vectors = self.reconstruct_n(row, 1)[0]
        return vector

    def reconstruct_n(self, start: int, count: int) -> Vectors:
        """``count`` vectors from a row on: float32 ``[count, dimension]``."""
        return restored(self._codes[start : start + count], "ubinary", self.d, turns=True)

    def clone(self) -> Bits:
        """A copy."""
        import faiss

        binary = faiss.IndexBinaryFlat(self.binary.d)
        binary.add(self._codes.copy())
        return Bits(self.d, binary)

    @property
    def _codes(self) -> NDArray[np.uint8]:
        """The bits as FAISS holds them: uint8 ``[ntotal, dimension / 8]``, valid until vectors are added."""
        import faiss

        if not self.ntotal:
            return np.empty((0, self.binary.code_size), dtype=np.uint8)
        size = self.ntotal * self.binary.code_size
        codes: NDArray[np.uint8] = faiss.rev_swig_ptr(self.binary.xb.data(), size).reshape(self.ntotal, -1)
        return codes
