"""``index``, and ``search`` in what it made, on the real built-in model and small inputs."""

import json
import re

import pytest

from echo_embeddings import EchoConfig
from tests.architectures import tiny


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
    late = ("index", "gone", "idx", "--config", "prompt-eol", "--late-chunking")
    assert "pools what follows the text" in run(*late, code=1)  # before any file is read
    assert run("index", notes, notes, code=1).endswith("notes exists and is not an index; choose another place")


def test_an_index_that_follows_a_graph(run, notes):
    options = ("--config", "classical", "--max-length", 64, "--kind", "hnsw")
    assert "idx: 4 passages in " in run("index", notes, "idx", *options)
    assert json.loads((notes.parent / "idx" / "manifest.json").read_text())["kind"] == "hnsw"
    assert len(json.loads(run("search", "idx", "free of charge", "-k", 10, "--json"))) == 4
    assert "--kind" in run("index", notes, "idx", "--kind", "ivf", code=2)


def test_update_embeds_what_changed_and_needs_no_model_if_nothing_did(run, notes, monkeypatch):
    (notes / "picture.png").touch()
    options = ("--config", "classical", "--max-length", 64)
    done = run.result("index", notes, "idx", "--update", *options)
    assert "idx: 2 new, 0 changed, 0 removed, 0 unchanged file(s); 4 passages in " in done.stdout
    assert "not read, by suffix: 1 .png. index reads .txt, .md" in " ".join(done.stderr.split())
    (notes / "tide.py").unlink()
    (notes / "more.html").write_text("<h1>Tides</h1><p>High water is at noon.</p>")
    told = json.loads(run("index", notes, "idx", "--update", "--json"))
    assert (told["new"], told["changed"], told["removed"], told["unchanged"]) == (["more.html"], [], ["tide.py"], 1)
    assert (told["passages"], told["others"]) == (3, {".png": 1})
    assert "High water is at noon." in run("search", "idx", "When is high tide?", "-k", 1)

    monkeypatch.setattr("echo_embeddings.cli.options.open_encoder", None)
    before = (notes.parent / "idx" / "manifest.json").stat()
    assert "0 new, 0 changed, 0 removed, 2 unchanged file(s); 3 passages in" in run("index", notes, "idx", "--update")
    assert (notes.parent / "idx" / "manifest.json").stat() == before
    run("index", notes, "idx", "--update", *options)  # the same config is no other one
    for more, message in (
        (("--config", "echo"), "idx was made with another config; leave --config, --max-length and --dimensions out"),
        (("--dimensions", 5), "idx was made with another config"),
        (("--kind", "hnsw"), "idx is of kind exact; leave --kind out, or make it again without --update"),
        (("--model", "other/model"), "vectors of other/model cannot be compared with it; leave --model out"),
    ):
        assert message in run("index", notes, "idx", "--update", *more, code=1)


def test_names_that_are_no_utf8_do_not_lose_the_run(run, notes):
    name = b"caf\xe9.md".decode("utf-8", "surrogateescape")
    (notes / name).write_text("Coffee is served on deck.")
    (notes / name.replace(".md", ".txt")).write_bytes(b"\xff")
    done = run.result("index", notes, "idx", "--config", "classical", "--max-length", 64)
    assert r"caf\xe9.txt is not UTF-8" in " ".join(done.stderr.split())
    assert r"caf\xe9.md:1" in run("search", "idx", "Where is coffee?", "-k", 1)
    (hit,) = json.loads(run("search", "idx", "Where is coffee?", "-k", 1, "--json"))
    assert hit["source"] == f"{name}:1"


def test_other_weights_of_the_same_folder_are_refused(run, notes, builtin_folder, tmp_path):
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    model = tiny("llama", vocab_size=49152)
    AutoTokenizer.from_pretrained(builtin_folder).save_pretrained(folder)
    model.save_pretrained(folder)
    run("index", notes, "idx", "--model", folder, "--config", "classical")
    assert run("search", "idx", "dog", "-k", 1)
    model.layers[0].mlp.down_proj.weight.data *= 1.01
    model.save_pretrained(folder)
    message = "made with other weights than .*model has now: the model was changed or trained further since"
    assert re.search(message, run("search", "idx", "dog", code=1))
    (notes / "new.md").write_text("New.")
    assert re.search(message, run("index", notes, "idx", "--update", code=1))
