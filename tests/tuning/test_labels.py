"""Labels that decide and labels that judge, on vectors whose numbers can be computed by hand."""

import numpy as np
import pytest

from echo_embeddings.errors import InputError
from echo_embeddings.evaluation.datasets import Pairs, Retrieval
from echo_embeddings.tuning.labels import Labels

RIGHT, WRONG = ([[1, 0], [1, 0]], [[1, 0], [0, 1]])


def test_pairs_of_one_half_decide_and_the_other_judges():
    data = Pairs([float(i % 2) for i in range(40)], [f"a{i} x" for i in range(40)], [f"b{i} x" for i in range(40)])
    labels = Labels.of(data)
    assert not set(labels.deciding.texts[0]) & set(labels.held_out.texts[0])
    assert len(labels.texts) == 80
    assert (labels.of_words == 1).all()
    assert labels.fitted == 0
    assert labels.names == ("Spearman",)
    number = {text: i for i, text in enumerate(labels.texts)}
    vectors = np.zeros((80, 2), np.float32)
    for half, agrees in ((labels.deciding, True), (labels.held_out, False)):
        for score, first, second in zip(half.scores, half.first, half.second, strict=True):
            vectors[[number[first], number[second]]] = RIGHT if (score == 1) == agrees else WRONG
    assert labels.measure(vectors) == pytest.approx((1,))
    assert labels.judged(vectors) == pytest.approx(-100)
    assert labels.measure(np.ones((80, 2), np.float32)) == (0,), "not defined"
    assert labels.judged(np.ones((80, 2), np.float32)) == 0


def test_queries_are_parted_and_documents_are_not():
    documents = {f"d{i}": f"document {i}" for i in range(500)}
    queries = {f"q{i}": f"query {i}" for i in range(200)}
    labels = Labels.of(Retrieval(documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(200)}))
    assert len(labels.deciding.judgements) == len(labels.held_out.judgements) == 75
    assert not set(labels.deciding.judgements) & set(labels.held_out.judgements)
    assert labels.deciding.documents == labels.held_out.documents
    assert len(labels.deciding.documents) == 300
    assert {f"d{one[1:]}" for half in (labels.deciding, labels.held_out) for one in half.judgements} <= set(
        labels.deciding.documents
    )
    assert np.bincount(labels.of_words.astype(int)).tolist() == [0, 600, 150]


def test_only_the_first_words_are_embedded():
    long = " ".join(f"w{i}" for i in range(500))
    data = Pairs([float(i) for i in range(20)], [f"{i} {long}" for i in range(20)], ["short"] * 20)
    assert {len(text.split()) for text in Labels.of(data).texts} == {1, 128}


def test_a_half_that_can_judge_nothing_is_refused():
    sides = [f"a{i}" for i in range(20)], [f"b{i}" for i in range(20)]
    with pytest.raises(InputError, match="of 20 pairs, one half has the score 5 only, so there is nothing to rank"):
        Labels.of(Pairs([5.0] * 19 + [1.0], *sides))
    documents, queries = {"d": "document", "e": "other"}, {f"q{i}": f"query {i}" for i in range(40)}
    only = {query: {"d": int(query == "q0")} for query in queries}
    with pytest.raises(InputError, match="there are 1 queries with a relevant document; at least 20 are needed"):
        Labels.of(Retrieval(documents, queries, only))
    with pytest.raises(InputError, match="there are 40 queries and 1 document: there is nothing to find among"):
        Labels.of(Retrieval({"d": "document"}, queries, {query: {"d": 1} for query in queries}))


def test_queries_without_a_relevant_document_are_in_neither_half():
    documents = {f"d{i}": f"document {i}" for i in range(30)}
    queries = {f"q{i}": f"query {i}" for i in range(60)}
    judgements = {f"q{i}": {f"d{i % 30}" if i < 40 else "gone": int(i < 20 or i >= 40)} for i in range(60)}
    labels = Labels.of(Retrieval(documents, queries, judgements))
    asked = {**labels.deciding.judgements, **labels.held_out.judgements}
    assert set(asked) == {f"q{i}" for i in range(20)}
