"""The sets and scores of the measurements on long documents, by examples that can be checked by hand."""

import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from echo_embeddings import EchoConfig, EchoEncoder, Lexical
from echo_embeddings.evaluation.datasets import Retrieval
from research.long_documents import articles, common, lengths, needles, references, splitting
from research.long_documents.references import COPIES, FACTS
from tests.architectures import small_tokenizer, tiny

DOCUMENTS, QUESTIONS = references.documents()


def made(on_truncate="warn"):
    lexical = Lexical(np.random.default_rng(0).random(256).astype(np.float32), blocks=(8, 24))
    config = EchoConfig("{text}\n{text}", start_layer=2, lexical=lexical)
    texts = [one.text for one in QUESTIONS[:20]]
    model = tiny("llama", max_position_embeddings=1024)
    return EchoEncoder(
        model, config, tokenizer=small_tokenizer(texts), dtype="float32", max_length=500, on_truncate=on_truncate
    )


@pytest.fixture(scope="module")
def encoder():
    return made()


# --- references -------------------------------------------------------------------------------------------------------


def test_the_set_is_always_the_same():
    assert references.documents() == (DOCUMENTS, QUESTIONS)
    assert Counter(one.sort for one in DOCUMENTS) == {"one subject": 36, "two subjects": 12, "headings": 12}
    assert len(QUESTIONS) == (36 + 12 * 2 + 12 * 3) * FACTS == 288
    assert DOCUMENTS[0].text == (
        "A path leads to the library of Eskmouth. It rises 54 metres above the ground. Visitors are let in from June "
        "to October. The old landmark was built in 1745. Painters have often chosen it for a picture. It has seen many "
        "storms."
    )
    assert [(one.text, DOCUMENTS[0].chunks()[one.chunk]) for one in QUESTIONS if one.document == 0] == [
        ("How many metres tall is the library of Eskmouth?", "It rises 54 metres above the ground."),
        ("When can one visit the library of Eskmouth?", "Visitors are let in from June to October."),
        ("How old is the library of Eskmouth?", "The old landmark was built in 1745."),
    ]


def test_spans_are_the_chunks_and_cover_the_document():
    for document in DOCUMENTS:
        chunks = document.chunks()
        assert re.sub(r"\s", "", document.text) == re.sub(r"\s", "", "".join(chunks))
        assert all(chunk == chunk.strip() and len(chunk.split()) >= 2 for chunk in chunks)
        assert not re.search(r"[{}]|  ", document.text)
        assert len(document.heads) == len(chunks)


def test_an_answer_does_not_name_its_subject_but_its_document_does():
    for one in QUESTIONS:
        document = DOCUMENTS[one.document]
        answer, head = document.chunks()[one.chunk], document.heads[one.chunk]
        own = [word for word in re.findall(r"[A-Z]\w+", one.text)[1:] if word not in answer]
        assert own, one.text  # a name of its own, which the answer lacks
        assert own[-1].removesuffix("s") in document.text
        assert not set(own) & set(re.findall(r"\w+", answer))
        if document.sort != "two subjects":
            assert own[-1] in head


def test_each_answer_stands_in_three_documents_word_for_word():
    where = {}
    for one in QUESTIONS:
        where.setdefault(DOCUMENTS[one.document].chunks()[one.chunk], set()).add(one.document)
    assert min(map(len, where.values())) == COPIES
    assert len(where) > 80
    assert len({one.text for one in QUESTIONS}) == len(QUESTIONS)


def test_it_is_not_one_pattern():
    first = Counter(" ".join(one.text.split()[:2]) for one in QUESTIONS)
    assert len(first) > 25
    assert max(first.values()) < 0.15 * len(QUESTIONS)
    answers = Counter(DOCUMENTS[one.document].chunks()[one.chunk].split()[0] for one in QUESTIONS)
    assert answers["It"] > 30
    assert answers["She"] + answers["He"] > 15
    assert sum(count for word, count in answers.items() if word not in ("It", "She", "He")) > 100


def test_under_a_heading_the_name_stands_in_the_heading_alone():
    document = next(one for one in DOCUMENTS if one.sort == "headings")
    headings = re.findall(r"^## (.*)$", document.text, re.MULTILINE)
    assert len(headings) == 3
    for heading in headings:
        assert document.text.count(heading.split()[-1]) == 1


def test_windows_of_sentences():
    spans = [(0, 3), (4, 9), (10, 12)]
    assert references.windows(spans, 1) == spans
    assert references.windows(spans, 2) == [(0, 9), (10, 12)]


def test_the_ways_of_the_references(encoder, tmp_path, capsys):
    chosen = (0, 36, 48)  # one of each sort
    made = [DOCUMENTS[number] for number in chosen]
    questions = [replace(one, document=chosen.index(one.document)) for one in QUESTIONS if one.document in chosen]
    keep = common.Kept(tmp_path / "vectors.npz")
    vectors = references.embedded(keep, encoder, made, questions, 1, "tiny", quick=False)
    chunks = [chunk for one in made for chunk in one.chunks()]
    assert {name: len(rows) for name, rows in vectors.items()} == {
        "queries": len(questions),
        **dict.fromkeys(("late", "documents", "alone", "titled"), len(chunks)),
    }
    wanted = encoder.encode_documents([made[1].text])[0]
    assert vectors["documents"][len(made[0].spans)] @ wanted > 0.99999
    ways = references.scores(encoder, vectors)
    np.testing.assert_allclose(ways["alone"], encoder.encode_queries([q.text for q in questions]) @ vectors["alone"].T)
    assert {table.shape for table in ways.values()} == {(len(questions), len(chunks))}
    references.report(ways, made, questions, 1)
    printed = capsys.readouterr().out
    assert "| alone | " in printed
    assert "| +0.0 ± 0.0 |" in printed
    again = references.embedded(common.Kept(tmp_path / "vectors.npz"), None, made, questions, 1, "tiny", quick=False)
    np.testing.assert_array_equal(again["late"], vectors["late"])  # kept: no encoder is needed


# --- needles ----------------------------------------------------------------------------------------------------------


def test_needles_stand_where_they_should():
    (stack,) = needles.documents(1024, 1)
    assert stack.at == [0, 5, 10, 16, 21]
    assert stack.text.startswith(stack.needles[0].sentence)
    assert stack.text.endswith(stack.needles[-1].sentence)
    assert [one.kind for one in stack.needles] == ["fact", "passkey", "fact", "passkey", "fact"]
    for needle, at in zip(stack.needles, stack.at, strict=True):
        assert stack.text.count(needle.sentence) == 1
        start, end = stack.spans()[at]
        assert needle.sentence in stack.text[start:end] == stack.paragraphs[at]
    assert needles.documents(1024, 1)[0].text == stack.text


@pytest.mark.parametrize("length", needles.LENGTHS)
def test_a_question_about_a_needle_is_about_one_document(length):
    made = needles.documents(length, 12)
    words = [len(one.text.split()) for one in made]
    assert max(words) - min(words) < 0.1 * max(words)
    for number, stack in enumerate(made):
        for needle in stack.needles:
            name = re.findall(r"[A-Z]\w+", needle.question)[-1]
            assert [name in one.text for one in made].index(True) == number
            assert sum(name in one.text for one in made) == 1
    rest = [set(re.split(r"(?<=\.) ", one.text)) - {needle.sentence for needle in one.needles} for one in made]
    assert rest[0] <= set.union(*rest[1:]) or length < 1024  # of the same sentences


def test_the_ways_of_the_needles(encoder):
    made = needles.documents(256, 2)
    rng = np.random.default_rng(0)
    count = sum(len(one.paragraphs) for one in made)
    vectors = {
        name: rng.normal(size=(rows, 4)).astype(np.float32)
        for name, rows in (("queries", 10), ("late", count), ("alone", count), ("all", 2), ("beginning", 2))
    }
    found = needles.ways(vectors, made)
    cosines = vectors["queries"][3] @ vectors["late"][len(made[0].paragraphs) :].T
    assert found["late, best 3"].shape == (10, 2)
    assert found["late, best"][3, 1] == pytest.approx(cosines.max())
    assert found["late, best 3"][3, 1] == pytest.approx(np.sort(cosines)[-3:].mean())


# --- articles ---------------------------------------------------------------------------------------------------------


def test_paragraphs_of_an_article_are_joined(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        "\n".join(f'{{"_id": "{t}{i}", "title": "{t}", "text": "{t}{i}. Two."}}' for t in "AB" for i in range(3))
    )
    (tmp_path / "queries.jsonl").write_text("\n".join(f'{{"_id": "q{i}", "text": "q {i}?"}}' for i in range(4)))
    (tmp_path / "qrels" / "test.tsv").write_text("query\tcorpus\tscore\nq0\tA0\t1\nq1\tA0\t1\nq2\tB1\t1\nq3\tB2\t1\n")
    one, other = articles.articles(tmp_path, 2, 2, 1)
    assert (one.title, one.paragraphs, one.questions) == ("A", ["A0. Two.", "A1. Two."], [["q 0?"], []])
    assert other.questions == [[], ["q 2?"]]
    assert [one.text[start:end] for start, end in one.spans()] == one.paragraphs


def test_sentences_of_a_paragraph():
    text = 'He left in 3.5 hours. "Why?" she asked. (Nobody knew.) U.S. law'
    assert [text[a:b] for a, b in articles.sentences(text, 0)] == [
        "He left in 3.5 hours.",
        '"Why?" she asked.',
        "(Nobody knew.) U.S. law",
    ]
    assert articles.sentences("One. Two.", 10) == [(10, 14), (15, 19)]


def test_the_best_sentence_of_a_paragraph():
    scores = np.array([[1.0, 5.0, 2.0, 3.0, 0.0]], dtype=np.float32)
    assert articles.best_of(scores, [2, 1, 2]).tolist() == [[5, 2, 3]]


# --- texts that do not fit --------------------------------------------------------------------------------------------


def test_a_sample_has_long_texts_short_ones_and_their_questions():
    documents = {f"long{i}": "a " * 600 for i in range(4)} | {f"short{i}": "a" for i in range(9)}
    judgements = {"q0": {"long3": 1, "short8": 0}, "q1": {"short8": 2}, "q2": {"short1": 0}, "q3": {"gone": 1}}
    data = Retrieval(documents, dict.fromkeys(judgements, "?"), judgements)
    counting = SimpleNamespace(max_length=512, count_tokens=lambda texts: [len(text.split()) for text in texts])
    found, here, every = splitting.sample(data, counting, 2)
    assert (here, every) == (2, 4)
    assert len(found.documents) == 4
    assert {"long3", "short8"} <= set(found.documents)  # those that are asked for come first
    assert found.judgements == {"q0": {"long3": 1, "short8": 0}, "q1": {"short8": 2}}


# --- lengths ----------------------------------------------------------------------------------------------------------


def test_the_first_words_end_with_a_word():
    assert lengths.first_words("one  two\nthree four", 3) == "one  two\nthree"
    assert lengths.first_words(" one two", 2) == lengths.first_words(" one two", 9) == " one two"


def test_every_way_has_the_vectors_of_its_texts(monkeypatch, tmp_path):
    encoder, ways = made("ignore"), {"split": made("split")}
    monkeypatch.setattr(lengths, "encoder_of", lambda _, way: ways.get(way, encoder))
    texts = [" ".join([f"It has seen {i} storms and many masters."] * 60) for i in range(2)]
    keep = common.Kept(tmp_path / "vectors.npz")
    found = {way: lengths.vectors(keep, "any", way, 300, texts) for way in lengths.WAYS}
    assert {way: [len(one) for one in rows] for way, rows in found.items()} == {
        "beginning": [1, 1], "split": [1, 1], "chunks alone": [3, 3], "late chunks": [3, 3]
    }  # fmt: skip
    kept = [lengths.first_words(text, 300) for text in texts]
    chunk = " ".join(texts[1].split()[200:300])
    np.testing.assert_allclose(found["chunks alone"][1][2], encoder.encode_documents(chunk), atol=1e-6)
    np.testing.assert_allclose(np.concatenate(found["split"]), ways["split"].encode_documents(kept), atol=1e-6)
    assert not np.allclose(found["late chunks"][1][2], found["chunks alone"][1][2], atol=1e-3)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_success_of_a_question_with_one_right_row():
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.5, 0.5, 0.1], [0.5, 0.5, 0.5000001]], dtype=np.float32)
    found = common.success(scores, [0, 2, 1, 0])
    np.testing.assert_allclose(found["accuracy@1"], [1, 0, 1 / 2, 1 / 3])
    np.testing.assert_allclose(found["MRR"], [1, 1 / 3, (1 + 1 / 2) / 2, (1 + 1 / 2 + 1 / 3) / 3])
    np.testing.assert_allclose(found["nDCG@10"], [1, 1 / 2, (1 + 1 / np.log2(3)) / 2, (1 + 1 / np.log2(3) + 1 / 2) / 3])
    low = common.success(np.arange(20, dtype=np.float32)[None], [0])
    assert low["nDCG@10"][0] == 0
    assert low["MRR"][0] == 1 / 20


def test_the_spread_is_over_documents():
    values = np.array([1.0, 1.0, 0.0, 0.0])
    assert common.spread(values, ["a", "b", "a", "b"]) == 0  # both documents have the same mean
    assert common.spread(values, ["a", "a", "b", "b"]) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert common.margin(values, values / 2, ["a", "b", "a", "b"]) == "+25.0 ± 0.0"


def test_the_parts_of_a_vector(encoder):
    vectors = encoder.encode_documents(["The ferry leaves.", "Bread rises."])
    dense, words = common.parts(encoder, vectors)
    without = encoder.with_config(encoder.config.replace(lexical=None))
    np.testing.assert_allclose(dense, without.encode_documents(["The ferry leaves.", "Bread rises."]), atol=1e-5)
    assert words.shape == (2, 32)
    assert common.parts(without, dense)[1] is None


def test_equal_texts_have_equal_vectors(encoder):
    rows = common.alone(encoder, ["A ferry.", "Bread.", "A ferry."])
    np.testing.assert_array_equal(rows[0], rows[2])
