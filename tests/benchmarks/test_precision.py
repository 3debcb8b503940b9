"""What benchmarks.precision makes of vectors: distractors, and the scores of an index."""

import numpy as np

from benchmarks.precision import distractors, irrelevant, scores, with_distractors
from echo_embeddings import Lexical
from echo_embeddings.evaluation.datasets import Retrieval
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.precision import Ranges

SET = Retrieval({"a": "one", "b": "two", "c": "three"}, {"q": "which?"}, {"q": {"a": 1, "b": 0, "gone": 1}})


def test_a_distractor_has_the_echo_of_one_document_and_the_words_of_another():
    lexical = Lexical(np.ones(4), blocks=(2, 2))  # echo 0-1, words 2-3, echo 4, words 5-6
    found = distractors([np.full((1, 7), 1.0, np.float32), np.full((1, 7), 2.0, np.float32)], lexical, 50)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    kinds = {tuple(np.round(row / row.min(), 3).tolist()) for row in found}
    assert kinds == {(1, 1, 1, 1, 1, 1, 1), (2, 2, 1, 1, 2, 1, 1), (1, 1, 2, 2, 1, 2, 2)}


def test_what_is_relevant_gives_no_distractor_and_a_set_grows_behind_its_own():
    np.testing.assert_array_equal(irrelevant(SET, np.eye(3, dtype=np.float32)), np.eye(3)[1:])
    larger = with_distractors(SET, 2)
    assert larger.texts[0] == ["one", "two", "three", "distractor 0", "distractor 1"]
    assert larger.score(np.array([[1], [0], [0], [0], [0.5]], np.float32), np.eye(1, dtype=np.float32)) > 0


def test_an_index_in_bits_scores_the_nearest_as_the_question_s_numbers_do():
    vectors = unit(np.random.default_rng(0).normal(size=(60, 32)).astype(np.float32))
    ranges = Ranges.fit(vectors)
    found, whole = (scores(vectors, vectors[:3], ranges, row) for row in ("ubinary", "ubinary, all"))
    assert (found > -1).sum(axis=0).tolist() == [10, 10, 10]
    np.testing.assert_allclose(found[found > -1], whole[found > -1], atol=1e-5)
    assert scores(vectors, vectors[:3], ranges, "float32").argmax(axis=0).tolist() == [0, 1, 2]
