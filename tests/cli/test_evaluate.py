"""``evaluate`` on small files, with a tiny random model that lies in a folder."""

import json

import pytest

from tests.architectures import small_tokenizer, tiny

PAIRS = (
    "score\tsentence1\tsentence2\n"
    "5\tA dog runs.\tA dog is running.\n0\tA dog runs.\tHe cooks rice.\n3\tA cat.\tA dog.\n"
)


@pytest.fixture
def model(tmp_path):
    tiny("llama").save_pretrained(tmp_path / "model")
    small_tokenizer([PAIRS]).save_pretrained(tmp_path / "model")
    return "model"


@pytest.fixture
def pairs(tmp_path):
    (tmp_path / "data" / "sts").mkdir(parents=True)
    (tmp_path / "data" / "sts" / "pairs.tsv").write_text(PAIRS)
    (tmp_path / "data" / "translations.tsv").write_text("ein Hund\ta dog\neine Katze\ta cat\n")
    return "data"


def test_evaluate_shows_a_table_and_keeps_what_is_done(run, model, pairs, tmp_path):
    shown = run("evaluate", model, "data/sts/pairs.tsv", "--data", "data", "--output", "out")
    rows = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in shown.splitlines() if "│" in line]
    assert rows[0][:3] == ["pairs", "STS", "cosine_spearman"]
    assert [row[0] for row in rows[1:]] == [
        "translations",
        "mean of STS",
        "mean of BitextMining",
        "mean of all tasks",
        "mean of the kinds",
    ]
    report = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert rows[0][3] == f"{report['scores'][0]['score']:.2f}"
    assert (tmp_path / "out" / "scores.svg").is_file()
    done = (tmp_path / "out" / "scores.json").stat().st_mtime_ns
    told = json.loads(run("evaluate", model, "--data", "data", "--output", "out", "--json"))
    assert told["scores"] == report["scores"]
    assert done <= (tmp_path / "out" / "scores.json").stat().st_mtime_ns


def test_evaluate_says_what_is_wrong_before_it_loads_anything(run, model, pairs):
    assert run("evaluate", model, code=1).startswith("error: nothing to evaluate model on: name a file, a folder, or a")
    assert run("evaluate", "builtin", "data/sts", "--instruction", "Find it", code=1).startswith(
        "error: instructions='Find it' were given, but the query template"
    )
    assert "error: there is no model './gone'" in run("evaluate", "./gone", "data", code=1)


def test_a_task_of_mteb_without_a_hub_is_named_and_the_others_have_their_scores(run, model, pairs):
    done = run.result("evaluate", model, "data/sts", "--tasks", "STSBenchmark.v2", "--output", "out", code=1)
    assert "pairs" in done.stdout
    told = " ".join(done.stderr.split())
    assert "STSBenchmark.v2 has no score: its data (mteb/STSBenchmarkv2) could not be fetched:" in told
