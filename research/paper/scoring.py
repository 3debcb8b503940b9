"""What experiments share: the three ways of reading a text, keys of measurements, and scores of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.datasets import Dataset, Pairs, Retrieval
from echo_embeddings.types import Vectors
from research.paper.passes import cosines
from research.paper.structures import Triplet
from research.paper.study import Study, digest

__all__ = ["CONFIGS", "joined", "key", "ndcg", "ndcg_of", "right", "spearman", "texts_of"]

#: Presets that work for any model.
CONFIGS = {
    "classical": EchoConfig.preset("classical"),
    "echo": EchoConfig.preset("echo"),
    "late echo": EchoConfig.preset("late-echo"),
}


def key(study: Study, model: str, config: EchoConfig, data: Dataset | Any, **more: Any) -> dict[str, Any]:
    """The key of a measurement: digests of model, config and data, and what else it depends on."""
    return {
        "model": study.fingerprint(model),
        "config": config.fingerprint()[:12],
        "data": digest(data),
    } | more


def joined(samples: Sequence[Any]) -> Any:
    """One mapping, from one a sample: each value becomes the list of the samples' values.

    The mappings have the same names, and may hold mappings themselves: ``{"echo": {"mean": 62.1}}`` of two samples
    becomes ``{"echo": {"mean": [62.1, 60.4]}}``.
    """
    if isinstance(samples[0], Mapping):
        return {name: joined([sample[name] for sample in samples]) for name in samples[0]}
    return list(samples)


def right(rows: Sequence[Triplet], vectors: Mapping[str, Vectors]) -> float:
    """The percentage of triplets in which the query is nearer to the positive than to the negative text.

    Args:
        rows: the triplets.
        vectors: the vector of each text.
    """
    query, positive, negative = (
        np.stack([vectors[text] for text in side])
        for side in zip(*((one.query, one.positive, one.negative) for one in rows), strict=True)
    )
    near = np.array(cosines(query, positive)) - np.array(cosines(query, negative))
    return round(100 * float(np.mean(near > 0)), 4)


def texts_of(rows: Sequence[Triplet]) -> list[str]:
    """The distinct texts of triplets."""
    return list(dict.fromkeys(text for one in rows for text in (one.query, one.positive, one.negative)))


def spearman(pairs: Pairs, vectors: Vectors) -> float:
    """Spearman x100, four decimals, of unit vectors of ``pairs.texts[0]``."""
    return round(pairs.score(vectors, np.zeros((0, 1), np.float32)), 4)


def ndcg(retrieval: Retrieval, documents: Vectors, queries: Vectors) -> float:
    """Mean nDCG@10 x100, four decimals, of unit vectors of ``retrieval.texts``."""
    return round(retrieval.score(documents, queries), 4)


def ndcg_of(encoder: EchoEncoder, retrieval: Retrieval) -> float:
    """:func:`ndcg` of an encoder's vectors; queries are embedded as queries."""
    documents, queries = retrieval.texts
    return ndcg(retrieval, encoder.encode_documents(documents), encoder.encode_queries(queries))
