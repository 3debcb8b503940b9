"""``embed`` on the real built-in model and small inputs."""

import gzip
import json
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder, NumericalError
from tests.architectures import tiny
from tests.conftest import cosines

TEXTS = [
    "The ferry leaves at dawn.",
    "Bread needs a hot oven.",
    "",
    "The ferry leaves at dawn.",
    "Tides follow the moon.",
]


def write_lines(path, texts):
    path.write_text("".join(f"{text}\n" for text in texts))


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
    options = ("--role", "query", *config, "--checkpoint-rows", 2, "--json")
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
    assert "--checkpoint-rows" in run("embed", "a.txt", "b.npy", "--checkpoint-rows", 0, code=2)


def test_embed_from_a_pipe(run, tmp_path, builtin_encoder):
    stdin = "".join(json.dumps({"text": text, "n": i}) + "\n" for i, text in enumerate(TEXTS))
    assert "out.parquet: 5 vectors of 1024 dimensions" in run("embed", "-", "out.parquet", stdin=stdin)
    made = pq.read_table("out.parquet")
    assert made.column("n").to_pylist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(np.stack(made["embedding"].to_numpy()), builtin_encoder.encode_documents(TEXTS))
    run("embed", "-", "out.npy", "--format", "txt", stdin="".join(f"{text}\n" for text in TEXTS))
    np.testing.assert_array_equal(np.load("out.npy"), builtin_encoder.encode_documents(TEXTS))
    assert "stdin:1: this line is not JSON" in run("embed", "-", "new.npy", stdin="plain text\n", code=1)
    assert not (tmp_path / "new.npy.parts").exists()


def test_embed_says_what_a_bad_row_leaves(run, tmp_path):
    rows = [{"text": "good"}] * 5 + [{"text": None}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("embed", "in.jsonl", "out.npy", "--checkpoint-rows", 2, "--config", "classical")
    assert run(*command, code=1) == (
        "error: in.jsonl:6: 'text' is null; drop the row or give it a text. 4 rows are saved in out.npy.parts: mend "
        "the input and run the same again to go on"
    )
    write_lines(tmp_path / "in.jsonl", [json.dumps(row) for row in rows[:5]])
    assert "5 vectors of 576 dimensions" in (said := run(*command))
    assert "4 of them from an earlier run" in said


def test_embed_raises_its_bounds_by_options(run, tmp_path):
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 3 + b"\n" * 2_000_000))
    command = ("embed", "in.jsonl.gz", "out.npy", "--config", "classical")
    message = run(*command, code=1)
    assert "bytes when it is decompressed" in message
    assert "raise max_decompressed_bytes (--max-decompressed-mb)" in message
    message = run(*command, "--max-decompressed-mb", 2, "--max-row-mb", 0.00001, code=1)
    assert message == (
        "error: in.jsonl.gz:1: this line is longer than 10 bytes, the most that a row may have; mend it, or raise "
        "max_row_bytes (--max-row-mb)"
    )
    assert "3 vectors" in run(*command, "--max-decompressed-mb", 2)
    for option in ("--max-decompressed-mb", "--max-row-mb"):
        assert run(*command, option, "inf", code=1) == f"error: {option} inf: give a number of MiB, such as 64"
        assert run(*command, option, "nan", code=1) == f"error: {option} nan: give a number of MiB, such as 64"


def test_embed_does_not_go_on_with_other_weights_under_the_same_path(run, tmp_path, builtin_folder):
    tiny("llama", vocab_size=49152).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(builtin_folder).save_pretrained(tmp_path / "model")
    write_lines(tmp_path / "in.jsonl", [json.dumps({"text": text}) for text in TEXTS] + ["no JSON"])
    command = ("embed", "in.jsonl", "out.npy", "--checkpoint-rows", 2, "--model", "model", "--config", "classical")
    assert "4 rows are saved in out.npy.parts" in run(*command, code=1)
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    save_file(
        {name: tensor + 0.5 for name, tensor in tensors.items()},
        tmp_path / "model" / "model.safetensors",
        {"format": "pt"},
    )
    write_lines(tmp_path / "in.jsonl", [json.dumps({"text": text}) for text in TEXTS])
    assert run(*command, code=1) == (
        "error: out.npy.parts holds an unfinished run of something else: the adapter or model_kwargs changed since, or "
        "the weights did. Run it as before to go on, or add --restart to begin anew"
    )
    assert "5 vectors of" in run(*command, "--restart")


def test_embed_says_what_is_saved_after_an_error_of_the_model(run, tmp_path, monkeypatch):
    write_lines(tmp_path / "in.txt", TEXTS)
    encode, calls = EchoEncoder.encode_documents, []

    def fail(self, texts, **options):
        calls.append(texts)
        if len(calls) == 2:
            raise NumericalError("the model produced NaN")
        return encode(self, texts, **options)

    monkeypatch.setattr(EchoEncoder, "encode_documents", fail)
    command = ("embed", "in.txt", "out.npy", "--checkpoint-rows", 3, "--config", "classical")
    assert run(*command, code=1) == (
        "3 rows are saved in out.npy.parts; run the same command to go on error: the model produced NaN"
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_embed_takes_file_names_that_are_not_utf8(run, tmp_path):
    source, target = (os.fsdecode(name) for name in (b"in\xff.txt", b"out\xff.npy"))
    write_lines(tmp_path / source, TEXTS)
    command = ("embed", source, target, "--config", "classical")
    assert r"out\xff.npy: 5 vectors" in run(*command)
    assert json.loads(run(*command, "--restart", "--json"))["output"] == r"out\xff.npy"
    assert np.load(tmp_path / target).shape == (5, 576)


def test_embed_splits_long_texts(run, tmp_path):
    long = "The ferry leaves the island at dawn. " * 8
    write_lines(tmp_path / "in.txt", ["Tides follow the moon.", long])
    config = ("--config", "late-echo", "--dtype", "float32")
    run("embed", "in.txt", "split.npy", *config, "--max-length", 16, "--on-truncate", "split")
    encoder = EchoEncoder(config="late-echo", dtype="float32", max_length=16, on_truncate="split")
    texts = (tmp_path / "in.txt").read_text().splitlines()
    assert cosines(np.load("split.npy"), encoder.encode_documents(texts)).min() > 0.9999
    assert "give a whole number of at least 1, or 'context'" in run(
        "embed", "in.txt", "bad.npy", "--max-length", "all", code=2
    ).replace("│ ", "")


def test_embed_splits_texts_into_passages(run, tmp_path):
    paragraphs = [f"{name} are what this paragraph is about. " * 14 for name in ("Ferries", "Loaves")]
    rows = [{"id": 7, "text": "\n\n".join(paragraphs)}, {"id": 8, "text": "Tides follow the moon."}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--config", "late-echo", "--dtype", "float32", "--split", "passages")
    told = run("embed", "in.jsonl", "out.parquet", *options)
    assert "out.parquet: 3 vectors of" in told
    made = pq.read_table("out.parquet").to_pylist()
    assert [(one["id"], one["row"], one["start"]) for one in made] == [
        (7, 0, 0),
        (7, 0, len(paragraphs[0]) + 2),
        (8, 1, 0),
    ]
    run("embed", "in.jsonl", "late.parquet", *options, "--late-chunking")
    encoder = EchoEncoder(config="late-echo", dtype="float32")
    late = np.stack([one["embedding"] for one in pq.read_table("late.parquet").to_pylist()])
    spans = [[(one["start"], one["end"]) for one in made if one["row"] == row] for row in (0, 1)]
    assert cosines(late, np.concatenate(encoder.encode_chunks([row["text"] for row in rows], spans))).min() > 0.9999
    assert cosines(late, np.stack([one["embedding"] for one in made])).min() < 0.999


def test_embed_refuses_to_split_where_it_makes_no_sense(run, tmp_path):
    write_lines(tmp_path / "in.txt", TEXTS)
    refused = {
        (
            "in.txt",
            "out.npy",
            "--split",
            "passages",
        ): "error: out.npy: split='passages' (--split passages) needs a .parquet",
        ("in.txt", "out.parquet", "--late-chunking"): "error: late_chunking (--late-chunking) makes a vector for each",
        ("in.txt", "out.parquet", "--split", "passages", "--role", "query"): "error: role='query': only documents are",
        (
            "in",
            "out",
            "--split",
            "passages",
            "--engine",
            "ray",
        ): "error: --split passages works with --engine local only",
        (".", "out.parquet", "--split", "passages"): "error: .: the suffix '' is unknown",
    }
    for arguments, message in refused.items():
        assert run("embed", *arguments, code=1).startswith(message)
