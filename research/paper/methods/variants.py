"""What is done to a method's raw vectors: one of four transforms, and words beside it or not. No second pass is run.

Transforms are fitted on vectors of other texts than those that are scored.

- *raw*: nothing.
- *standardised*: the library's ``Standardize``.
- *whitened*: standardised, turned to the principal axes, and each axis divided by its standard deviation. There are
  fewer texts than dimensions, so the covariance is shrunk towards the identity by 0.1 first; the library's ``whiten``
  wants more texts than that.
- *EmbedFilter* (arXiv 2606.07502): the library's ``EmbedFilter``, the middle half of the right singular vectors of the
  unembedding. It belongs behind the final norm. A method that stops before it has its pooled vector normed first, which
  is the same for a single token, and nearly so for a mean.
- *words*: the lexical part of the default preset beside any of these, with its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from echo_embeddings import EchoConfig
from echo_embeddings.evaluation.datasets import Dataset
from echo_embeddings.types import Role
from echo_embeddings.vectors.lexical import Lexical
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.transforms import EmbedFilter, Project, Standardize

__all__ = ["NAMES", "WORDS", "Vectors", "filtering", "scores", "shrunk_whitening", "transforms", "words_alone"]

Vectors = NDArray[np.float32]
RAW, STANDARDISED, WHITENED, FILTERED = "raw", "standardised", "whitened", "EmbedFilter"
#: Transforms, in their order in a table.
NAMES = (RAW, STANDARDISED, WHITENED, FILTERED)
#: What is added to a name where words stand beside the vector.
WORDS = " + words"
_SHRINKAGE = 0.1


def transforms(
    fitted_on: Vectors, embed_filter: Callable[[Vectors], Vectors] | None
) -> dict[str, Callable[[Vectors], Vectors]]:
    """Each transform by its name.

    Args:
        fitted_on: vectors of texts that are not scored.
        embed_filter: made of :func:`filtering`; ``None`` for a model without an unembedding.
    """
    found: dict[str, Callable[[Vectors], Vectors]] = {
        RAW: lambda vectors: vectors,
        STANDARDISED: Standardize.fit(fitted_on),
        WHITENED: shrunk_whitening(fitted_on),
    }
    return found if embed_filter is None else found | {FILTERED: embed_filter}


def shrunk_whitening(fitted_on: Vectors, shrinkage: float = _SHRINKAGE) -> Project:
    """Whitening by a covariance that is shrunk towards the identity."""
    scales = Standardize.fit(fitted_on)
    standard = scales(fitted_on).astype(np.float64)
    covariance = standard.T @ standard / len(standard)
    size = len(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)
    variances, axes = np.linalg.eigh(shrunk)
    weight = axes / np.sqrt(variances) / scales.arrays["std"].astype(np.float64)[:, None]
    return Project(weight, -scales.arrays["mean"] @ weight)


def filtering(unembedding: NDArray[np.float32]) -> EmbedFilter:
    """EmbedFilter with half of the dimensions.

    Args:
        unembedding: ``[vocabulary, dim]``, float32.
    """
    return EmbedFilter.from_unembedding(unembedding)


def scores(
    dataset: Dataset, documents: Vectors, queries: Vectors | None, maps: Mapping[str, Callable[[Vectors], Vectors]]
) -> dict[str, float]:
    """The set's metric for each transform, with words and without.

    Args:
        dataset: pairs, or a retrieval set.
        documents: raw vectors of its documents.
        queries: raw vectors of its queries; ``None`` where it has none.
        maps: from :func:`transforms`.
    """
    of_documents, of_queries = (_words(texts, role) for texts, role in _sides(dataset))
    empty = np.empty((0, 0), np.float32)
    found = {}
    for name, change in maps.items():
        mapped = unit(change(documents)), empty if queries is None else unit(change(queries))
        found[name] = dataset.score(*mapped)
        found[name + WORDS] = dataset.score(
            unit(np.hstack([mapped[0], of_documents])),
            empty if queries is None else unit(np.hstack([mapped[1], of_queries])),
        )
    return found


def words_alone(dataset: Dataset) -> float:
    """The set's metric for the words without any model."""
    return dataset.score(*(_words(texts, role) for texts, role in _sides(dataset)))


def _sides(dataset: Dataset) -> list[tuple[list[str], Role]]:
    documents, queries = dataset.texts
    return [(documents, "document"), (queries, "query")]


def _words(texts: list[str], role: Role) -> Vectors:
    return np.float32(_lexical().weight(role)) * _lexical().vectors(texts)


@lru_cache(maxsize=1)
def _lexical() -> Lexical:
    lexical = EchoConfig.preset("default").lexical
    if lexical is None:
        raise TypeError("the default preset has no lexical part")
    return lexical
