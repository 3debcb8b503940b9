"""Data sets that embeddings are judged on, and how they score vectors known by heart. No model."""

import json

import numpy as np
import pytest

from echo_embeddings.errors import InputError
from echo_embeddings.evaluation.datasets import Pairs, open_dataset

PAIRS = 'score\tsentence1\tsentence2\n5\ta "b\tc\n0\ta "b\td\n2\td\tc\n'


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS)
    return path


@pytest.fixture
def beir(tmp_path):
    (tmp_path / "qrels").mkdir()
    documents = [{"_id": f"d{i}", "title": "T" if i == 0 else "", "text": f"text {i}"} for i in range(40)]
    queries = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(4)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    rows = ["query-id\tcorpus-id\tscore", "q0\td0\t1", "q1\td39\t2", "q1\td1\t0", "q2\td2\t1"]
    (tmp_path / "qrels" / "test.tsv").write_text("\n".join(rows))
    return tmp_path


def test_pairs_have_no_quoting_in_tsv(pairs):
    data = open_dataset(pairs)
    assert data.texts == (['a "b', "d", "c"], [])
    assert (data.size, data.metric) == ("3 pairs", "Spearman")


def test_pairs_are_scored_by_the_rank_of_their_cosines(pairs):
    data = open_dataset(pairs)
    # cosines: ab-c 0.8, ab-d 0, d-c 0.6: the order of the judgements 5, 0, 2.
    vectors = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
    assert data.score(vectors, vectors[:0]) == pytest.approx(100)


def test_csv_pairs_are_quoted_and_limited(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('sentence1,score,sentence2\n"a, b",1,c\nd,2,e\nf,x,g\n')
    data = open_dataset(path, 2)
    assert (data.first, data.second, data.scores) == (["a, b", "d"], ["c", "e"], [1.0, 2.0])


def test_a_beir_folder(beir):
    data = open_dataset(beir)
    assert data.size == "3 queries, 40 documents"
    assert data.documents["d0"] == "T text 0"
    assert data.texts[1] == ["query 0", "query 1", "query 2"]


def test_retrieval_is_scored_by_ndcg(beir):
    data = open_dataset(beir)
    # Each document and query its own axis; q0 and q1 find theirs first, q2 points to d3, and all others tie at 0.
    documents = np.eye(40, dtype=np.float32)
    queries = documents[[0, 39, 3]]
    # d2 is behind d3 and, with ties broken by the larger id, behind d9 ... d4: not among the ten.
    assert data.score(documents, queries) == pytest.approx(100 * 2 / 3)


def test_a_limit_keeps_what_is_relevant(beir):
    data = open_dataset(beir, 2)
    assert list(data.judgements) == ["q0", "q1"]
    assert len(data.documents) == 20
    assert {"d0", "d39"} <= set(data.documents)
    for limit in (0, -1, 2.5, True):
        with pytest.raises(InputError, match=f"limit={limit}: give a whole number of at least 1"):
            open_dataset(beir, limit)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "sentence1\tsentence2\n",
            r"there is no column 'score' in its first line; it wants score, sentence1, sentence2",
        ),
        ("", r"there is no column 'score'"),
        ("score\tsentence1\tsentence2\nhigh\ta\tb\n", r"pairs\.tsv:2: score is 'high', not a number"),
        ("score\tsentence1\tsentence2\nnan\ta\tb\n", r"pairs\.tsv:2: score is 'nan', not a number"),
        ("score\tsentence1\tsentence2\n4_5\ta\tb\n", r"pairs\.tsv:2: score is '4_5', not a number"),
        ("score\tsentence1\tsentence1\tsentence2\n1\ta\tb\tc\n", r"pairs\.tsv has two columns 'sentence1'; rename"),
        ("score\tsentence1\tsentence2\n1\ta\n", r"pairs\.tsv:2: this row has 2 cells, but the header has 3"),
        ("score\tsentence1\tsentence2\n1\ta\tb\n1\tc\td\n", "has 2 pairs, and not two different scores"),
    ],
)
def test_pairs_that_cannot_be_used(pairs, content, message):
    pairs.write_text(content)
    with pytest.raises(InputError, match=message):
        open_dataset(pairs)


def test_a_limit_that_leaves_nothing_to_rank_is_said(pairs):
    pairs.write_text("score\tsentence1\tsentence2\n1\ta\tb\n1\tc\td\n2\te\tf\n")
    with pytest.raises(
        InputError, match=r"pairs\.tsv: with limit=2 there are its first 2 pairs, and not two different"
    ):
        open_dataset(pairs, 2)


def test_csv_that_is_none_is_named(tmp_path):
    (tmp_path / "pairs.csv").write_text('score,sentence1,sentence2\n1,"a"b,c\n')
    with pytest.raises(InputError, match=r"pairs\.csv:2: this row cannot be read"):
        open_dataset(tmp_path / "pairs.csv")


def test_beir_folders_that_cannot_be_used(beir):
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq9\td0\t1\n")
    with pytest.raises(InputError, match=r"test\.tsv:2: there is no query 'q9' in queries\.jsonl"):
        open_dataset(beir)
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t0.5\n")
    with pytest.raises(InputError, match=r"test\.tsv:2: score is '0\.5'; how relevant a document is, is a whole"):
        open_dataset(beir)
    for row, said in (
        ('{"_id": "d0", "text": null}', "text is None, not a string"),
        ('{"_id": null, "text": "a"}', "_id is None, not a string"),
        ('{"_id": "d0", "text": "a", "title": ["b"]}', r"title is \['b'\], not a string"),
        ('{"_id": "d0", "text": "a", "text": "b"}', "an object has the key 'text' twice"),
    ):
        (beir / "corpus.jsonl").write_text(row)
        with pytest.raises(InputError, match=rf"corpus\.jsonl:1: this line is not an object .*{said}"):
            open_dataset(beir)
    (beir / "corpus.jsonl").write_text('{"_id": 1, "text": "a"}\n{"_id": "1", "text": "b"}\n')
    with pytest.raises(InputError, match=r"the _id '1' stands there twice, with two texts"):
        open_dataset(beir)
    (beir / "corpus.jsonl").write_text('{"_id": "d0"}\n')
    with pytest.raises(InputError, match=r"corpus\.jsonl:1: this line is not an object with _id and text"):
        open_dataset(beir)
    (beir / "queries.jsonl").unlink()
    with pytest.raises(InputError, match=r"has no queries\.jsonl; BEIR's layout is corpus\.jsonl, queries\.jsonl and"):
        open_dataset(beir)


def judged(beir, *rows):
    (beir / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    return beir


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["q0\td0\t1", "q0\td0\t0"],
            r"test\.tsv:3: query 'q0' and document 'd0' stand there twice, with the scores 1 and 0; keep one",
        ),
        # pytrec_eval would ask for 24 GB.
        (["q0\td0\t3000000000"], r"test\.tsv:2: score is '3000000000'; how relevant .* at most 10,000"),
        (["q0\td0\t0", "q1\td1\t-1"], "has 2 judged queries, and none with a score above 0"),
        (
            ["q0\t0\t1", "q1\t1\t1"],
            r"none of the 2 relevant documents of qrels/test\.tsv is in corpus\.jsonl, such as '0'; is each _id",
        ),
    ],
)
def test_judgements_that_cannot_be_used(beir, rows, message):
    with pytest.raises(InputError, match=message):
        open_dataset(judged(beir, *rows))


def test_what_no_model_can_find_is_said(beir):
    assert open_dataset(judged(beir, "q0\td0\t1", "q0\td0\t1")).judgements == {"q0": {"d0": 1}}
    with pytest.warns(UserWarning, match=r"1 of 2 relevant documents are not in corpus\.jsonl, such as 'd99'"):
        open_dataset(judged(beir, "q0\td0\t1", "q1\td99\t1"))
    with pytest.warns(UserWarning, match="1 of 2 judged queries have no relevant document; each counts as 0"):
        open_dataset(judged(beir, "q0\td0\t1", "q1\td1\t0"))


def test_half_a_character_is_read_as_an_encoder_reads_it(beir):
    (beir / "corpus.jsonl").write_text(r'{"_id": "d0", "text": "a \ud83d b"}')
    assert open_dataset(judged(beir, "q0\td0\t1")).documents == {"d0": "a \ufffd b"}


def test_another_file(tmp_path):
    with pytest.raises(
        InputError, match=r"give a \.tsv or \.csv of score,sentence1,sentence2, or a folder in BEIR's layout"
    ):
        open_dataset(tmp_path / "a.json", None)


def test_pairs_without_scipy_name_the_extra(pairs, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"comparing on pairs needs scipy: from a checkout: .*pip install '\.\[evaluation\]'"
    ):
        open_dataset(pairs)


# --- pairs that belong together, and halves ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".csv"])
def test_each_anchor_is_to_find_its_positive(tmp_path, suffix):
    rows = [("when?", "at dawn"), ("who?", "the cook"), ("when?", "at noon"), ("what?", "the cook")]
    cells = {".tsv": "\t", ".csv": ","}
    if suffix in cells:
        lines = [cells[suffix].join(row) for row in [("anchor", "positive"), *rows]]
    else:
        lines = [json.dumps({"anchor": anchor, "positive": positive, "more": 1}) for anchor, positive in rows]
    path = tmp_path / f"pairs{suffix}"
    path.write_text("\n".join(lines) + "\n")
    data = open_dataset(path)
    assert data.documents == {"d0": "at dawn", "d1": "the cook", "d2": "at noon"}
    assert data.queries == {"q0": "when?", "q1": "who?", "q2": "what?"}
    assert data.judgements == {"q0": {"d0": 1, "d2": 1}, "q1": {"d1": 1}, "q2": {"d1": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"anchor": "a"}\n', r"pairs\.jsonl:1: this line is not an object with anchor and positive"),
        ('\n{"anchor": "a", "positive": "b"}\n', r"has 1 different positives: there is nothing to find among them"),
        ("[]\n", r"pairs\.jsonl:1: this line is not an object"),
        ('{"anchor": "a", "positive": null}\n', r"pairs\.jsonl:1: .*positive is None, not a string"),
        ('{"anchor": "a", "positive": "b", "anchor": "c"}\n', r"pairs\.jsonl:1: .*has the key 'anchor' twice"),
        ('{"anchor": "a", "positive": ' + "[" * 100_000, r"pairs\.jsonl:1: this line is not an object"),
    ],
)
def test_matched_pairs_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "pairs.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path / "pairs.jsonl")


def test_too_few_pairs_cannot_be_parted():
    with pytest.raises(InputError, match="there are 19 pairs; at least 20 are needed, so that one half judges"):
        Pairs([1.0] * 19, ["a"] * 19, ["b"] * 19).parted(300)


def test_halves_are_of_the_most_that_may_be():
    pairs = Pairs([float(i) for i in range(100)], [f"a{i}" for i in range(100)], [f"b{i}" for i in range(100)])
    one, other = pairs.parted(50)
    assert len(one.scores) == len(other.scores) == 25
    assert not set(one.scores) & set(other.scores)
    assert pairs.parted(50)[0] == one, "always the same"
    assert all(first == f"a{score:.0f}" for first, score in zip(one.first, one.scores, strict=True))
