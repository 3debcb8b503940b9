"""``echo-embeddings mine`` on the real built-in model: what it writes, and what it refuses."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from echo_embeddings import EchoConfig
from echo_embeddings.cli.app import app
from sentence_transformers_echo.training import Data
from sentence_transformers_echo.training.data import read

PAIRS = [
    ("When does the ferry leave?", "The boat to the island departs at six in the morning."),
    ("When does the boat go?", "The boat to the island departs at six in the morning!"),
    ("How is bread made?", "Mix flour, water, salt and yeast, let it rise, and bake it."),
    ("What do bees make?", "Honey is produced by bees from the nectar of flowers."),
    ("Why is the sky blue?", "Air scatters short wavelengths of sunlight more than long ones."),
    ("Where do penguins live?", "These birds are found on the coasts of Antarctica."),
]
UNLOADABLE = ("--model", "./config-only")  # whoever gets as far as loading it says so


@pytest.fixture
def run(builtin_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, ["mine", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else " ".join(result.stderr.split())

    return run


@pytest.fixture
def pairs(tmp_path):
    lines = [json.dumps({"anchor": question, "positive": answer}) for question, answer in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return "pairs.jsonl"


def expected(encoder, count, margin):
    """By hand: for each question the nearest answers of others that score less than its own by the margin."""
    questions, answers = (list(side) for side in zip(*PAIRS, strict=True))
    scores = encoder.encode_queries(questions) @ encoder.encode_documents(answers).T
    found = {}
    for i, question in enumerate(questions):
        allowed = [j for j in np.argsort(-scores[i]) if j != i and scores[i, j] <= (1 - margin) * scores[i, i]]
        if len(allowed) >= count:
            found[question] = [answers[j] for j in allowed[:count]]
    return found


def test_the_nearest_passages_that_are_not_right(run, pairs, tmp_path, float32_encoder):
    options = ("--config", "classical", "--dtype", "float32", "--max-length", 64, "--negatives", 2, "--margin", 0.1)
    told = json.loads(run(pairs, "triples.jsonl", *options, "--json"))
    config = EchoConfig.preset("classical").replace(max_length=64)
    wanted = expected(float32_encoder.with_config(config), 2, 0.1)
    assert 0 < len(wanted) < len(PAIRS)  # the margin leaves some out
    mined = [json.loads(line) for line in (tmp_path / "triples.jsonl").read_text().splitlines()]
    assert {row["anchor"]: [row["negative_1"], row["negative_2"]] for row in mined} == wanted
    assert {(row["anchor"], row["positive"]) for row in mined} <= set(PAIRS)
    assert told.pop("seconds") > 0
    assert told == {
        "output": "triples.jsonl",
        "pairs": 6,
        "triples": len(wanted),
        "negatives": 2,
        "model": "SmolLM2-135M-Instruct",
        "config": config.fingerprint(),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl", "triples.jsonl"]


def test_what_it_says_of_the_columns_is_what_a_recipe_reads(run, tmp_path):
    (tmp_path / "faq.csv").write_text("id,q,a\n" + "".join(f'{i},{q},"{a}"\n' for i, (q, a) in enumerate(PAIRS)))
    (tmp_path / "out.jsonl.gz").write_text("an older file")
    said = run("faq.csv", "out.jsonl.gz", "--column", "q", "--column", "a", "--limit", 4, "--margin", 0, "--restart")
    count, of = (int(said.split()[i]) for i in (1, 3))
    columns = said.rstrip().rsplit("columns: [", 1)[1].rstrip("]").split(", ")
    triples = read(Data("out.jsonl.gz", columns=tuple(columns)), tmp_path, seed=0)
    assert triples.column_names == ["anchor", "positive", "negative_1"]
    assert (len(triples), of) == (count, 4)
    assert all((row["anchor"], row["positive"]) in PAIRS for row in triples)


def test_pairs_in_parquet(run, tmp_path):
    questions, answers = zip(*PAIRS, strict=True)
    pq.write_table(pa.table({"anchor": questions, "positive": answers, "n": range(len(PAIRS))}), "pairs.parquet")
    assert "of 6 pairs with 1 hard negative" in run(
        "pairs.parquet", "out.jsonl", "--config", "classical", "--margin", 0
    )


def test_it_refuses_before_it_loads_anything(run, pairs, tmp_path):
    (tmp_path / "config-only").mkdir()
    (tmp_path / "config-only" / "config.json").write_text("{}")
    (tmp_path / "bad.jsonl").write_text('{"anchor": "a", "positive": "b"}\n{"anchor": "a", "positive": null}\n')
    (tmp_path / "half.jsonl").write_text('{"anchor": "a"}\n')
    (tmp_path / "faq.csv").write_text("q,a\nb,c\n")
    (tmp_path / "old.jsonl").write_text("mine")
    refused = {
        ("gone.jsonl", "new.jsonl"): "gone.jsonl: No such file or directory",
        ("bad.jsonl", "new.jsonl"): "bad.jsonl:2: 'positive' is null; drop the row or give it a text",
        ("half.jsonl", "new.jsonl"): "half.jsonl:1: there is no column 'positive', only anchor; name the columns",
        ("faq.csv", "new.jsonl"): "faq.csv: there is no column 'anchor', only q, a; choose one with --column",
        ("faq.csv", "new.jsonl", "--column", "q"): "faq.csv: columns=['q']: give pairs",
        (pairs, "old.jsonl"): "old.jsonl exists; add --restart to compute it anew, or choose another output",
        (pairs, pairs, "--restart"): "pairs.jsonl is the input; choose another output",
        (pairs, "new.csv"): "new.csv: the suffix '.csv' is unknown; write to .jsonl or .jsonl.gz",
        (pairs, "no/new.jsonl"): "no/new.jsonl: there is no folder no; make it first",
        (pairs, "new.jsonl", "--negatives", 9, "--candidates", 8): (
            "--negatives 9 cannot be found among --candidates 8; look at more"
        ),
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, message in refused.items():
        assert run(*arguments, *UNLOADABLE, code=1).startswith(f"error: {message}")
    assert "could not be loaded" in run(pairs, "new.jsonl", *UNLOADABLE, code=1)
    assert (tmp_path / "old.jsonl").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_nothing_found_leaves_the_old_file(run, pairs, tmp_path):
    (tmp_path / "old.jsonl").write_text("mine")
    said = run(pairs, "old.jsonl", "--config", "classical", "--margin", 0.99, "--restart", code=1)
    assert "error: pairs.jsonl: no pair has 1 negatives below margin=0.99; lower the margin" in said
    assert (tmp_path / "old.jsonl").read_text() == "mine"


def test_wrong_usage_is_exit_code_2(run, pairs):
    assert "--margin" in run(pairs, "new.jsonl", "--margin", 2, code=2)
    assert "--negatives" in run(pairs, "new.jsonl", "--negatives", 0, code=2)


def test_without_the_package(run, pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers_echo.training", None)
    said = run(pairs, "new.jsonl", code=1)
    assert "mining needs sentence_transformers_echo.training: from a checkout: " in said
    assert "pip install './integrations/sentence-transformers[train]'" in said
