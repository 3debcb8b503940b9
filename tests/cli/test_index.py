"""``index``, and ``search`` in what it made, on the real built-in model and small inputs."""

import json

import pytest

from echo_embeddings import EchoConfig


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "island.md").write_text("# Ferries\nBoats sail at dawn.\n\n# Dogs\nPets travel [b]free[/b] of charge.\n")
    (folder / "tide.py").write_text('"""Tools for tides."""\n\n\ndef high():\n    """The next high water."""\n')
    (folder / "bad.py").write_text("def (")
    return folder


def test_index_then_search(run, notes, float32_encoder):
    options = ("--config", "classical", "--max-length", 64, "--dimensions", 500, "--dtype", "float32", "--json")
    made = json.loads(run("index", notes, "idx", *options))
    assert (made["passages"], made["dimension"]) == (4, 500)
    assert len(made["skipped"]) == 1
    assert "bad.py is not Python that this Python can read (invalid syntax (bad.py, line 1))" in made["skipped"][0]

    hits = json.loads(run("search", "idx", "Can I bring my dog?", "-k", 2, "--dtype", "float32", "--json"))
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert hits[0]["score"] > hits[1]["score"]
    classical = float32_encoder.with_config(EchoConfig.preset("classical").replace(max_length=64).truncated(500))
    passage = classical.encode_documents(hits[0]["passage"])
    assert hits[0]["score"] == pytest.approx(float(classical.encode_queries("Can I bring my dog?") @ passage), abs=1e-5)

    shown = run("search", "idx", "free of charge", "-k", 10)
    assert "island.md:4" in shown
    assert "Pets travel [b]free[/b] of charge." in shown
    assert "tide.py:high" in shown


def test_index_refuses(run, notes, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run("index", "gone", "idx", code=1) == "error: gone: No such file or directory"
    assert run("index", "empty", "idx", code=1).startswith("error: empty has no passages; index reads .txt, .md")
    assert run("index", notes, notes, code=1).endswith("notes exists and is not an index; choose another place")


def test_an_index_that_follows_a_graph(run, notes):
    options = ("--config", "classical", "--max-length", 64, "--kind", "hnsw")
    assert "idx: 4 passages in " in run("index", notes, "idx", *options)
    assert json.loads((notes.parent / "idx" / "manifest.json").read_text())["kind"] == "hnsw"
    assert len(json.loads(run("search", "idx", "free of charge", "-k", 10, "--json"))) == 4
    assert "--kind" in run("index", notes, "idx", "--kind", "ivf", code=2)
