"""The two numbers that embeddings are judged by: Spearman and nDCG@10. Metrics know ids and scores, not texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["ndcg_at_10", "spearman"]


def spearman(predicted: Sequence[float] | NDArray[np.float32], judged: Sequence[float]) -> float:
    """Rank correlation, ties sharing their mean rank; ``nan`` if one side is constant."""
    from scipy.stats import rankdata

    a, b = rankdata(predicted), rankdata(judged)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def ndcg_at_10(scores: NDArray[np.float32], ids: Sequence[str], relevance: Mapping[str, int]) -> float:
    """nDCG@10 of one query as trec_eval computes it: linear gains, ties broken by the larger id.

    Args:
        scores: ``[n]``, one for each document.
        ids: the documents' ids.
        relevance: judged documents; what is not judged counts as 0, and so does what is below 0.

    Returns:
        0 to 1; 0 if nothing is relevant.
    """
    ideal = _dcg(sorted(relevance.values(), reverse=True)[:10])
    if not ideal:
        return 0.0
    least = np.partition(scores, len(scores) - 10)[len(scores) - 10] if len(scores) > 10 else -np.inf
    candidates = np.flatnonzero(scores >= least).tolist()
    best = sorted(candidates, key=lambda row: (float(scores[row]), ids[row]), reverse=True)[:10]
    return _dcg([relevance.get(ids[row], 0) for row in best]) / ideal


def _dcg(gains: Sequence[int]) -> float:
    return sum(max(gain, 0) / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
