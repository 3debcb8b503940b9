"""Each command beside ``throughput`` starts, and counts what it says it counts."""

import runpy
import sys

import pytest

from benchmarks import quality
from benchmarks.costs import text_sets
from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.datasets import Retrieval


@pytest.mark.parametrize("name", ["adapters", "costs", "distributed", "quality", "throughput.__main__"])
def test_a_command_shows_its_help(name, monkeypatch, capsys):
    module = f"benchmarks.{name}"
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.delitem(sys.modules, module, raising=False)  # it runs anew, as with python -m
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(module, run_name="__main__")
    assert f"python -m {module.removesuffix('.__main__')}" in capsys.readouterr().out


def test_sets_of_texts_have_the_same_size():
    sets = text_sets(11)
    assert {len(texts) for texts in sets.values()} == {11}
    assert all(len(text.split()) <= 8 for text in sets["short texts"])
    assert min(len(text.split()) for text in sets["passages"]) >= 30


def test_layer_tokens_of_a_late_echo(builtin_folder):
    classical, late = (EchoEncoder(config=config) for config in (EchoConfig("{text}"), EchoConfig("{text}{text}")))
    tokens = quality.layer_tokens(classical, ["a b c"], [])
    assert tokens == 30 * 3
    assert quality.layer_tokens(late, ["a b c"], []) == 2 * tokens
    late = late.with_config(EchoConfig("{text}{text}", start_layer=18, exit_layer=24))
    assert quality.layer_tokens(late, ["a b c"], []) == (18 + 6 * 2) * 3


def test_the_quality_of_presets_as_a_table(builtin_folder, tmp_path, capsys):
    rows = ["5\tA boat leaves.\tA boat departs.", "1\tA boat leaves.\tBread rises.", "3\tA b\tA c"]
    pairs = "\n".join(["score\tsentence1\tsentence2", *rows])
    (tmp_path / "sts").mkdir()
    for name in quality.STS:
        (tmp_path / "sts" / f"{name}.tsv").write_text(pairs)
    for name in quality.RETRIEVAL:
        folder = tmp_path / "retrieval" / name
        (folder / "qrels").mkdir(parents=True)
        (folder / "corpus.jsonl").write_text('{"_id": "1", "text": "A boat leaves."}\n{"_id": "2", "text": "Bread."}\n')
        (folder / "queries.jsonl").write_text('{"_id": "q", "text": "When does the boat leave?"}\n')
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\n")
    quality.main([str(tmp_path), "--presets", "default,default@256,zero-shot+words,classical"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == ["| default", "| default@256", "| zero-shot+words", "| classical"]
    assert rows[2][-1] == rows[3][-1]
    assert rows[5][-1] == "1.00 |"


def test_scores_are_those_of_the_encoder_s_own_vectors(builtin_folder):
    documents = {"1": "A boat leaves at dawn.", "2": "Bread rises in a warm room.", "3": "The boat is late."}
    dataset = Retrieval(documents, {"q": "When does the boat leave?"}, {"q": {"1": 2, "3": 1}})
    embedder = quality.Embedder()
    encoder = EchoEncoder(on_truncate="ignore")
    for each in (encoder, encoder.with_config(encoder.config.truncated(256))):
        found = embedder.score("default", each, "boats", dataset).value
        vectors = each.encode_documents(dataset.texts[0]), each.encode_queries(dataset.texts[1])
        assert found == pytest.approx(dataset.score(*vectors))
