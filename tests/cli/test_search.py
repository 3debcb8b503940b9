"""``search``: what it refuses before a model is loaded, and how questions and answers look."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.cli.search import _about_scores
from echo_embeddings.search import Index, Passage


@pytest.fixture
def idx(tmp_path):
    """An index that says it was made with the built-in model."""

    class Encoder:
        model_name, config, dimension = "SmolLM2-135M-Instruct", EchoConfig.preset("echo"), 2

        def encode_documents(self, texts, **_):
            return np.ones((len(texts), 2), np.float32)

    Index.build(["a passage"], Encoder()).save(tmp_path / "idx")


def test_another_model_than_the_index_has(run, idx):
    assert run("search", "idx", "dog", "--model", "other/model", code=1) == (
        "error: idx was made with SmolLM2-135M-Instruct, and vectors of other/model cannot be compared with it; "
        "leave --model out, or make the index again"
    )


def test_what_is_no_index(run):
    assert run("search", "gone", "what?", code=1) == (
        "error: gone is not an index; make one with: echo-embeddings index FOLDER gone"
    )


def test_an_index_whose_files_disagree(run, idx, tmp_path):
    (tmp_path / "idx" / "passages.jsonl").write_text("")
    message = "error: idx/passages.jsonl has 0 passages, but manifest.json says 1; make the index again"
    assert run("search", "idx", "what?", code=1) == message


@pytest.fixture
def asked(idx, monkeypatch):
    """The index, and an encoder that needs no model; the questions that it was asked."""
    questions = []

    class Encoder:
        model_name, config, dimension, max_length = "SmolLM2-135M-Instruct", EchoConfig.preset("echo"), 2, 512
        truncated = SimpleNamespace(texts=0, tokens=0)

        def encode_queries(self, question):
            questions.append(question)
            return np.ones(2, np.float32) / 2

    monkeypatch.setattr("echo_embeddings.cli.options.open_encoder", lambda *_, **__: Encoder())
    return questions


def test_several_questions_from_standard_input(run, asked):
    shown = run("search", "idx", "-", stdin="one?\n\n  two? \n")
    assert asked == ["one?", "two?"]
    answer = ["1.  1.000  0", "    a passage", ""]
    assert [line.rstrip() for line in shown.splitlines()] == ["one?", *answer, "two?", *answer]
    lines = run("search", "idx", "-", "--json", stdin="one?\ntwo?").splitlines()
    hit = {"rank": 1, "score": 1.0, "source": "0", "passage": "a passage"}
    assert [json.loads(line) for line in lines] == [{"question": q, "hits": [hit]} for q in ("one?", "two?")]
    message = run("search", "idx", "-", stdin=b"good\n\xff\n", code=1)
    assert message.endswith("error: standard input, line 2, is not UTF-8 (invalid start byte)")


def test_a_person_is_asked_until_an_empty_line(run, asked, monkeypatch):
    monkeypatch.setattr("echo_embeddings.cli.search._is_terminal", lambda: True)
    shown = run("search", "idx", stdin="one?\ntwo?\n\nnever\n")
    assert asked == ["one?", "two?"]
    assert shown.count("a passage") == 2
    run("search", "idx", stdin="three?")
    assert asked[2:] == ["three?"]


def test_without_a_question_and_without_a_terminal(run, idx):
    message = run("search", "idx", code=2)
    assert "give a question, or - to read questions from standard input" in message.replace("│ ", "").replace(" │", "")


def test_what_a_score_means_is_said_beside_the_answers(run, asked):
    result = run.result("search", "idx", "one?")
    assert "1.000" in result.stdout
    assert "compare the scores of one question" in result.stderr
    assert "cosine" not in run.result("search", "idx", "one?", "--json").stderr
    said = "a good hit lies at about 0.4, and unlike texts at 0.15 to 0.26"
    assert said in _about_scores(EchoConfig.preset("default"))
    assert "0.4" not in _about_scores(EchoConfig.preset("default").truncated(256))


HOSTILE = "\x1b[31mred\x07 \u202etxt.exe\x9b2J \r end\nnext\tline :smile: [b]x[/b]"


def test_what_a_terminal_would_obey_is_spelled_out(run, asked, tmp_path):
    name = b"caf\xe9\x1b]0;t\x07\nforged.md".decode("utf-8", "surrogateescape")
    encoder = SimpleNamespace(
        model_name="SmolLM2-135M-Instruct",
        config=EchoConfig.preset("echo"),
        dimension=2,
        encode_documents=lambda texts, **_: np.ones((len(texts), 2), np.float32),
    )
    Index.build([Passage(f"{name}:1", HOSTILE)], encoder).save(tmp_path / "idx")
    shown = run("search", "idx", "one?")
    assert r"caf\xe9\x1b]0;t\x07\nforged.md:1" in shown
    assert r"\x1b[31mred\x07 \u202etxt.exe\x9b2J \r end" in shown
    assert ":smile: [b]x[/b]" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
    shown = run("search", "idx", "one?", "--json")
    assert all(character.isprintable() or character == "\n" for character in shown)
    (hit,) = json.loads(shown)
    assert (hit["source"], hit["passage"]) == (f"{name}:1", HOSTILE)


def test_messages_are_spelled_out_too(run):
    assert run("search", "no\x1b[2Jindex", "one?", code=1).startswith(r"error: no\x1b[2Jindex is not an index")
