"""What experiments share: the three ways of reading a text, keys of measurements, and scores of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from echo_embeddings import EchoConfig
from echo_embeddings.evaluation.datasets import Dataset, Pairs, Retrieval
from echo_embeddings.types import Vectors
from research.paper.study import Study, digest

__all__ = ["CONFIGS", "joined", "key", "ndcg", "spearman"]

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


def joined(samples: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """The values of all samples by name."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            found.setdefault(name, []).append(value)
    return found


def spearman(pairs: Pairs, vectors: Vectors) -> float:
    """Spearman x100, four decimals, of unit vectors of ``pairs.texts[0]``."""
    return round(pairs.score(vectors, np.zeros((0, 1), np.float32)), 4)


def ndcg(retrieval: Retrieval, documents: Vectors, queries: Vectors) -> float:
    """Mean nDCG@10 x100, four decimals, of unit vectors of ``retrieval.texts``."""
    return round(retrieval.score(documents, queries), 4)
