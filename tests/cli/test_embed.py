"""The commands in this process, on the real built-in model and small inputs."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from echo_embeddings import EchoConfig, __version__
from echo_embeddings.cli.app import app
from echo_embeddings.config import presets

TEXTS = [
    "The ferry leaves at dawn.",
    "Bread needs a hot oven.",
    "",
    "The ferry leaves at dawn.",
    "Tides follow the moon.",
]


@pytest.fixture
def run(builtin_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else " ".join(result.stderr.split())

    return run


def write_lines(path, texts):
    path.write_text("".join(f"{text}\n" for text in texts))


# --- embed --------------------------------------------------------------------------------------------------------


def test_embed_keeps_all_columns_and_the_order(run, tmp_path, builtin_encoder):
    table = pa.table({"id": [7, 5, 6, 1, 2], "body": TEXTS, "tags": [["a"], [], None, ["b", "c"], ["d"]]})
    pq.write_table(table, "in.parquet")
    assert "out.parquet: 5 vectors of 1024 dimensions" in run("embed", "in.parquet", "out.parquet", "--column", "body")
    made = pq.read_table("out.parquet")
    assert made.drop_columns("embedding").equals(table)
    assert made.schema.field("embedding").type == pa.list_(pa.float32(), 1024)
    vectors = np.stack(made["embedding"].to_numpy())
    np.testing.assert_array_equal(vectors, builtin_encoder.encode_documents(TEXTS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_embed_queries_to_npy_with_options(run, tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    config = ("--config", "echo-finetuned", "--max-length", 3, "--dimensions", 9)
    options = ("--role", "query", *config, "--window", 2, "--json")
    told = json.loads(run("embed", "in.jsonl", "out.npy", *options))
    assert told["truncated"]["texts"] == 4
    assert (told["rows"], told["dimension"], told["resumed_from"]) == (5, 9, 0)
    assert told["config"] == EchoConfig.preset("echo-finetuned").replace(max_length=3).truncated(9).fingerprint()
    vectors = np.load("out.npy")
    assert (vectors.shape, vectors.dtype) == ((5, 9), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[3] == pytest.approx(1, abs=1e-2)


def test_embed_refuses_before_it_loads_anything(run, tmp_path):
    write_lines(tmp_path / "in.txt", TEXTS)
    (tmp_path / "out.npy").touch()
    (tmp_path / "config.json").write_text("{}")
    refused = {
        ("in.txt", "out.npy"): "error: out.npy exists; add --restart to compute it anew, or choose another output",
        ("in.txt", "out.csv"): "error: out.csv: the suffix '.csv' is unknown; write to .parquet or .npy",
        ("in.txt", "no/out.npy"): "error: no/out.npy: there is no folder no; make it first",
        ("gone.txt", "new.npy"): "error: gone.txt: No such file or directory",
        ("in.txt", "new.npy", "--column", "body"): "error: in.txt has no column 'body'",
        ("in.txt", "new.npy", "--config", "ecco"): "error: there is no preset 'ecco'; choose one of default, zero-shot",
        ("in.txt", "new.npy", "--device", "gpu"): "error: device='gpu' cannot be used: Expected one of cpu",
        ("in.txt", "new.npy", "--dtype", "int4"): "error: dtype='int4' is unknown; use 'auto', 'float32'",
        ("in.txt", "new.npy", "--model", "./gone"): "error: there is no model './gone'; give a hub id, a folder with",
        ("in.txt", "new.npy", "--model", "."): f"error: model '{tmp_path}' could not be loaded: ",
    }
    for arguments, message in refused.items():
        assert run("embed", *arguments, code=1).startswith(message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "in.txt", "out.npy"]


def test_embed_does_not_write_over_its_input(run, tmp_path):
    pq.write_table(pa.table({"text": TEXTS}), "in.parquet")
    message = run("embed", "in.parquet", "in.parquet", "--restart", code=1)
    assert message == "error: in.parquet is the input; choose another output"


def test_wrong_usage_is_exit_code_2(run):
    assert "Missing argument" in run("embed", code=2)
    assert "--rule" in run("embed", "a.txt", "b.npy", "--rule", "query", code=2)
    assert "--window" in run("embed", "a.txt", "b.npy", "--window", 0, code=2)


# --- index and search -----------------------------------------------------------------------------------------------


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

    assert run("search", "idx", "dog", "--model", "other/model", code=1) == (
        "error: idx was made with SmolLM2-135M-Instruct, and vectors of other/model cannot be compared with it; "
        "leave --model out, or make the index again"
    )


def test_index_refuses(run, notes, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run("index", "gone", "idx", code=1) == "error: gone: No such file or directory"
    assert run("index", "empty", "idx", code=1).startswith("error: empty has no passages; index reads .txt, .md")
    assert run("index", notes, notes, code=1).endswith("notes exists and is not an index; choose another place")
    assert run("search", "gone", "what?", code=1) == (
        "error: gone is not an index; make one with: echo-embeddings index FOLDER gone"
    )


# --- compare --------------------------------------------------------------------------------------------------------


def test_compare_pairs(run, tmp_path):
    rows = [
        "score\tsentence1\tsentence2",
        "5\tA dog runs.\tA dog is running.",
        "0\tA dog runs.\tHe cooks rice.",
        "3\tA cat.\tA dog.",
    ]
    (tmp_path / "pairs.tsv").write_text("\n".join(rows))
    told = json.loads(run("compare", "pairs.tsv", "--presets", "echo, classical@64,echo", "--json"))
    assert told["size"] == "3 pairs"
    made = [(result["preset"], result["dimension"]) for result in told["results"]]
    assert made == [("echo", 576), ("classical@64", 64)]
    for result in told["results"]:
        assert (result["metric"], result["truncated"]) == ("Spearman x100", 0)
        assert -100 <= result["score"] <= 100
        assert result["ms_per_text"] > 0


def test_compare_on_a_beir_folder_shows_a_table(run, tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "1", "title": "Ferry", "text": "The ferry leaves at dawn."}\n'
        '{"_id": "2", "text": "Bread needs an oven."}\n'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "a", "text": "The ferry leaves at dawn"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\na\t1\t1\n")
    shown = run("compare", ".", "--presets", "default")
    assert "SmolLM2-135M-Instruct on 1 queries, 2 documents" in shown
    assert [cell.strip() for cell in shown.splitlines()[-2].strip("│").split("│")][:2] == ["default", "100.00"]


def test_compare_says_a_wrong_preset_at_once(run, tmp_path):
    assert run("compare", ".", "--presets", "echo,nope", code=1).startswith("error: there is no preset 'nope'")
    assert run("compare", ".", "--presets", "echo@half", code=1) == (
        "error: --presets echo@half: behind @ goes a number of dimensions, such as echo@256"
    )
    assert run("compare", ".", "--presets", ",", code=1).startswith("error: --presets ',' names none; try --presets")


# --- model ----------------------------------------------------------------------------------------------------------


def test_model_info(run, builtin_folder):
    told = json.loads(run("model", "info", "--json"))
    assert told["model"] == "SmolLM2-135M-Instruct"
    assert told["from"] == str(builtin_folder)
    assert (told["architecture"], told["layers"], told["hidden_size"]) == ("llama", 30, 576)
    assert told["fingerprint"] == EchoConfig.preset("default").fingerprint()
    assert "template" in run("model", "info", builtin_folder)


def test_model_info_names_the_packaged_adapter(run, packaged_adapter):
    told = json.loads(run("model", "info", "--json"))
    assert told["adapter"] == f"default (packaged, {presets.digest('default')[:12]})"
    assert "adapter         default (packaged, " in run("model", "info")


def test_compare_refuses_a_preset_of_another_model_before_it_loads_anything(run, packaged_adapter):
    message = run("compare", "gone.tsv", "--model", "other/model", "--presets", "echo,default", code=1)
    assert message.startswith("error: the config has the packaged adapter 'default', which was trained for")


def test_model_info_of_nothing(run):
    message = run("model", "info", "./nowhere", code=1)
    assert message == "error: there is no model './nowhere'; give a hub id, a folder with config.json, or a .gguf file"


def test_model_pull_of_a_wrong_file(run, tmp_path):
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    assert run("model", "pull", "--gguf", "other.gguf", code=1).startswith("error: other.gguf has SHA-256")
    assert run("model", "pull", "--gguf", "gone.gguf", code=1).startswith("error: there is no file 'gone.gguf'")


def test_model_pull_of_what_is_there(run, builtin_folder):
    assert run("model", "pull") == f"SmolLM2-135M-Instruct is in {builtin_folder}\n"


def test_version(run):
    assert run("--version") == f"echo-embeddings {__version__}\n"
