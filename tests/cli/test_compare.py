"""``compare`` on the real built-in model and small inputs."""

import json


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


def test_compare_refuses_a_preset_of_another_model_before_it_loads_anything(run, packaged_adapter):
    message = run("compare", "gone.tsv", "--model", "other/model", "--presets", "echo,default", code=1)
    assert message.startswith("error: the config has the packaged adapter 'default', which was trained for")
