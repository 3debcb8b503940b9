"""Against numbers computed by hand. No model."""

import math

import numpy as np
import pytest

from echo_embeddings.evaluation.metrics import ndcg_at_10, spearman


def test_ndcg_by_hand():
    # Order by score: b (0), a (3), c (1). DCG = 0 + 3/log2(3) + 1/log2(4) = 2.392789; ideal = 3 + 1/log2(3) = 3.630930.
    value = ndcg_at_10(np.array([0.5, 0.9, 0.1], np.float32), ["a", "b", "c"], {"a": 3, "c": 1})
    assert value == pytest.approx(2.392789 / 3.630930, abs=1e-6)


def test_ndcg_of_a_perfect_order_is_one():
    assert ndcg_at_10(np.array([3.0, 2.0, 1.0], np.float32), ["a", "b", "c"], {"a": 2, "b": 1}) == 1.0


def test_only_the_first_ten_count():
    scores = np.arange(20, 0, -1).astype(np.float32)
    ids = [f"{i:02d}" for i in range(20)]
    assert ndcg_at_10(scores, ids, {"09": 1}) == pytest.approx(1 / math.log2(11))
    assert ndcg_at_10(scores, ids, {"10": 1}) == 0.0


def test_ties_go_to_the_larger_id_as_in_trec_eval():
    scores = np.zeros(30, np.float32)
    ids = [f"{i:02d}" for i in range(30)]
    assert ndcg_at_10(scores, ids, {"29": 1}) == 1.0
    assert ndcg_at_10(scores, ids, {"20": 1}) == pytest.approx(1 / math.log2(11))
    assert ndcg_at_10(scores, ids, {"19": 1}) == 0.0


def test_relevant_documents_that_are_missing_lower_the_value():
    assert ndcg_at_10(np.ones(1, np.float32), ["a"], {"a": 1, "gone": 1}) == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_ndcg_is_what_mteb_computes_with_pytrec_eval():
    import pytrec_eval

    rng = np.random.default_rng(0)
    ids = [f"d{i}" for i in range(40)]
    scores = rng.integers(0, 9, (25, 40)).astype(np.float32) / 8  # with many ties
    judged = {f"q{n}": {ids[i]: int(rng.integers(0, 4)) for i in rng.choice(40, 15, replace=False)} for n in range(25)}
    run = {f"q{n}": {one: float(score) for one, score in zip(ids, scores[n], strict=True)} for n in range(25)}
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10"}).evaluate(run)
    for n in range(25):
        assert ndcg_at_10(scores[n], ids, judged[f"q{n}"]) == pytest.approx(theirs[f"q{n}"]["ndcg_cut_10"], abs=1e-6)


def test_nothing_relevant_and_negative_judgements():
    assert ndcg_at_10(np.ones(1, np.float32), ["a"], {"a": 0}) == 0.0
    assert ndcg_at_10(np.array([2, 1], np.float32), ["a", "b"], {"a": -1, "b": 1}) == pytest.approx(1 / math.log2(3))


def test_spearman_by_hand():
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6.
    assert spearman([1.0, 2.0, 3.0, 4.0], [20, 10, 40, 30]) == pytest.approx(0.6)


def test_spearman_with_ties_by_hand():
    # Ranks 1 2.5 2.5 4 against 1 2 3 4: covariance 4.5, variances 4.5 and 5.
    assert spearman([1.0, 2.0, 2.0, 4.0], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_spearman_of_a_constant_is_not_a_number():
    assert math.isnan(spearman([1.0, 1.0], [1, 2]))
