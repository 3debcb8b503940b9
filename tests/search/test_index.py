"""An index: with vectors known by heart, and once with the built-in model."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from echo_embeddings import EchoConfig, EchoEncoder, TruncationWarning
from echo_embeddings.errors import InputError
from echo_embeddings.search import Hit, Index, Passage
from tests.architectures import small_tokenizer, tiny
from tests.search.fake import PASSAGES, FakeEncoder


@pytest.fixture(params=["exact", "hnsw"])
def index(request):
    return Index.build(PASSAGES, FakeEncoder(), kind=request.param)


@pytest.fixture
def saved(tmp_path):
    Index.build(PASSAGES, FakeEncoder()).save(tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture(scope="module")
def encoder():
    """A tiny random model."""
    tokenizer = small_tokenizer([f"one two three four five {number}" for number in range(5)])
    return EchoEncoder(tiny("llama"), "late-echo", tokenizer=tokenizer, max_length=4)


FOUND = [Hit(1, pytest.approx(0.8), "b.md:1", "Tides."), Hit(2, pytest.approx(0.6), "a.md:1", "Ferries.")]


def test_an_index_finds_its_passages(index):
    assert index.search("boats and the moon", k=2) == FOUND
    assert index.search(["boats and the moon", "Bread."], k=2)[0] == FOUND
    assert [hit.source for hit in index.search(("Bread.",), k=1)[0]] == ["a.md:3"]
    assert len(index.search("boats", k=50)) == 3
    assert index.search([]) == []
    assert (len(index), index.dimension) == (3, 3)


def test_a_vector_is_a_question_too(index):
    vector = np.array([0.6, 0, 0.8], np.float32)
    assert index.search(vector, k=2) == FOUND
    assert index.search(np.stack([vector] * 2).astype(np.float64), k=2) == [FOUND, FOUND]
    with pytest.raises(InputError, match=r"query vectors have the shape \[2\], but the index has 3 dimensions"):
        index.search(vector[:2])
    with pytest.raises(InputError, match="k=0: give a whole number of at least 1"):
        index.search(vector, k=0)
    for k in ("5", 2.5, True):
        with pytest.raises(InputError, match=rf"k={k!r}: give a whole number"):
            index.search(vector, k=k)
    with pytest.raises(InputError, match=r"query vectors are int8 \[3\], .* or encoder\.restored\(vectors\)"):
        index.search(vector.astype(np.int8))
    with pytest.raises(InputError, match="query vectors hold NaN or infinity"):
        index.search(np.full_like(vector, np.nan))
    for wrong in ("a/model", None, EchoEncoder):
        with pytest.raises(TypeError, match="encoder must be an EchoEncoder, not"):
            Index.build(["a"], wrong)


def test_a_column_is_passages_or_questions():
    index = Index.build(pa.array(["Ferries.", "Bread."]), FakeEncoder())
    index.add(pd.Series(["Tides."], index=[7]))
    assert [hit.source for hit in index.search("Tides.", k=1)] == ["2"]


def test_questions_in_a_table_or_a_set_are_refused(encoder):
    index = Index.build(["one"], encoder)
    assert len(index.search(pd.Series(["one", "two"], index=[1, 0]), k=1)) == 2
    for questions in (pd.DataFrame({"one": ["two"]}), {"one", "two"}, {"one": "two"}):
        with pytest.raises(TypeError, match="texts must be a string or a list of strings, not "):
            index.search(questions)


def test_texts_are_passages_by_their_number():
    seen = []
    index = Index.build(iter(["Ferries.", "Bread."]), FakeEncoder(), show_progress=seen.append)
    index.add(["Tides."])
    assert [hit.source for hit in index.search("Tides.", k=1)] == ["2"]
    assert seen == [2]


def test_passages_are_added_behind_those_that_are_there(index, tmp_path):
    index = Index.build(PASSAGES[:1], FakeEncoder())
    index.save(tmp_path / "i")
    loaded = Index.load(tmp_path / "i", FakeEncoder())
    loaded.add(PASSAGES[1:])
    assert loaded.search("boats and the moon", k=2) == FOUND
    assert len(Index.load(tmp_path / "i")) == 1
    loaded.save(tmp_path / "i")
    assert len(Index.load(tmp_path / "i")) == loaded.manifest.passages == 3


@pytest.mark.parametrize("way", ["build", "update"])
def test_what_is_truncated_is_said_once_a_call(encoder, way, tmp_path, monkeypatch):
    monkeypatch.setattr("echo_embeddings.search.index._CHUNK", 2)
    texts = [f"one two three four five {number}" for number in range(5)]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
    with pytest.warns(TruncationWarning, match=r"5 text\(s\) were truncated to max_length=4 tokens") as seen:
        Index.build(texts, encoder) if way == "build" else Index.empty(encoder).update(tmp_path)
    assert [warning.filename for warning in seen] == [__file__]


def test_what_is_saved_is_loaded(index, tmp_path):
    index.save(tmp_path / "i")
    loaded = Index.load(tmp_path / "i", FakeEncoder())
    assert loaded.search("boats and the moon", k=2) == FOUND
    assert loaded.config == EchoConfig.preset("echo")
    assert loaded.manifest == index.manifest


def test_what_cannot_be_indexed():
    with pytest.raises(InputError, match="there are no passages to index"):
        Index.build([], FakeEncoder())
    with pytest.raises(InputError, match=r"kind='ivf' is unknown; choose one of: exact \(.*hnsw \("):
        Index.build(PASSAGES, FakeEncoder(), kind="ivf")
    for passages, instead in (
        ("Ferries.", "not one string; give a list of texts"),
        ({"a": "Ferries."}, "not dict; pass a list of its values"),
        ({"Ferries.", "Bread."}, r"not set; it has no order, so pass a list, such as sorted\(passages\)"),
        (pd.DataFrame({"text": ["Ferries."]}), r"not DataFrame; pass one of its columns, such as passages\['text'\]"),
    ):
        with pytest.raises(TypeError, match=f"passages must be an iterable, {instead}"):
            Index.build(passages, FakeEncoder())
    with pytest.raises(TypeError, match=r"passages\[1\] is int, not a Passage or a text"):
        Index.build(["Ferries.", 5], FakeEncoder())


def test_an_encoder_of_something_else_is_refused(saved):
    with pytest.raises(InputError, match="was made with some/model, and vectors of other/model cannot be compared"):
        Index.load(saved, FakeEncoder("other/model"))
    with pytest.raises(InputError, match="was made with another config than that of the encoder"):
        Index.load(saved, FakeEncoder(preset="classical"))


class Trained(FakeEncoder):
    """Has a fingerprint of its weights, as every encoder has."""

    def __init__(self, weights, model_name="some/model", preset="echo"):
        super().__init__(model_name, preset)
        self.weights = weights

    def weights_fingerprint(self):
        return self.weights


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    Index.build(PASSAGES, Trained("before")).save(tmp_path / "i")
    assert Index.load(tmp_path / "i").manifest.weights == "before"
    message = (
        "was made with other weights than some/model has now: .* Bring back those weights, or make the index again"
    )
    with pytest.raises(InputError, match="i " + message):
        Index.load(tmp_path / "i", Trained("after"))
    index = Index.load(tmp_path / "i")
    with pytest.raises(InputError, match="the index " + message):
        index.encoder = Trained("after")
    with pytest.raises(InputError, match="vectors of other/model cannot be compared"):
        Index.load(tmp_path / "i", Trained("after", "other/model"))
    with pytest.raises(InputError, match="made with another config"):
        index.encoder = Trained("before", preset="classical")
    index.encoder = Trained("before")
    assert index.search("boats and the moon", k=2) == FOUND


def test_a_model_may_be_moved(tmp_path):
    Index.build(PASSAGES, Trained("same", "/old/place")).save(tmp_path / "i")
    assert Index.load(tmp_path / "i", Trained("same", "/new/place")).search("Bread.", k=1)[0].passage == "Bread."


def test_other_weights_are_refused_at_the_first_question_too(tmp_path, monkeypatch):
    Index.build(PASSAGES, Trained("before")).save(tmp_path / "i")
    monkeypatch.setattr("echo_embeddings.search.index.EchoEncoder", lambda *_, **__: Trained("after"))
    with pytest.raises(InputError, match="was made with other weights than some/model has now"):
        Index.load(tmp_path / "i").search("Bread.")


def test_a_passage_without_a_source_is_refused_before_the_work():
    with pytest.raises(TypeError, match=r"passages\[0\] is Passage\(source=5, text='a'\); source and text must be"):
        Index.build([Passage(5, "a")], FakeEncoder())


def test_a_model_that_was_in_memory_must_be_given_again(tmp_path):
    Index.build(PASSAGES, FakeEncoder("LlamaModel:")).save(tmp_path / "i")
    assert Index.load(tmp_path / "i", FakeEncoder("LlamaModel:")).search("Bread.", k=1)[0].passage == "Bread."
    with pytest.raises(InputError, match=r"a model in memory \(LlamaModel:\); give its encoder: Index\.load"):
        Index.load(tmp_path / "i").search("Bread.")


def test_the_built_in_model_is_made_at_the_first_question(builtin_encoder, tmp_path):
    texts = ["The ferry leaves the island at dawn.", "Bread needs a hot oven.", "Tides follow the moon."]
    Index.build(texts, builtin_encoder).save(tmp_path / "i")
    index = Index.load(tmp_path / "i")
    assert index.manifest.model is None
    (hit,) = index.search("When does the boat go?", k=1)
    question, passage = builtin_encoder.encode_queries("When does the boat go?"), texts[0]
    assert (hit.source, hit.passage) == ("0", passage)
    assert hit.score == pytest.approx(float(question @ builtin_encoder.encode_documents([passage])[0]), abs=1e-2)


def test_vectors_that_the_named_model_does_not_give_are_refused(builtin_encoder, tmp_path):
    index = Index.build(["one", "two"], builtin_encoder)
    index._faiss.reset()
    index._faiss.add(-builtin_encoder.encode_documents(["one", "two"]))
    index.save(tmp_path / "i")
    with pytest.raises(InputError, match=r"gives other vectors than those of the index \(cosine -1\.00"):
        Index.load(tmp_path / "i").search("a question")


def test_an_index_knows_what_became_of_long_passages(builtin_encoder, tmp_path):
    split = EchoEncoder.from_options(builtin_encoder.options.replace(on_truncate="split", max_length=16))
    index = Index.build(["one two three. " * 20, "a passage"], split)
    index.save(tmp_path / "index")
    assert index.manifest.long_texts == "split"
    truncating = EchoEncoder.from_options(split.options.replace(on_truncate="ignore"))
    with pytest.raises(InputError, match="of long passages split, and the encoder has them truncated; give it"):
        Index.load(tmp_path / "index", truncating)
    loaded = Index.load(tmp_path / "index")
    assert loaded.encoder.options.on_truncate == "split"
    assert loaded.search("one two three", k=1)[0].passage.startswith("one two")
