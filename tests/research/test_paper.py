"""The paper's experiments on a tiny random model: what they measure, and that a run goes on where it was killed."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import transformers as tf

from echo_embeddings import EchoConfig
from echo_embeddings.errors import InputError
from research.paper import __main__ as command
from research.paper.experiments import ORDER
from research.paper.experiments import attention as attention_experiment
from research.paper.experiments import budgets as budgets_experiment
from research.paper.experiments import halves as halves_experiment
from research.paper.experiments import languages as languages_experiment
from research.paper.experiments import sample_efficiency as sample_efficiency_experiment
from research.paper.experiments import sizes as sizes_experiment
from research.paper.experiments import structures as structures_experiment
from research.paper.passes import copies, pooled, token_states, unit
from research.paper.prompts import METHODS, VERBS, draws
from research.paper.scoring import CONFIGS as CONFIGS_OF_PAPER
from research.paper.scoring import spearman
from research.paper.structures import FILE, KINDS, grammar, triplets
from research.paper.study import MEASUREMENTS, NotMeasured, Study
from tests.architectures import CONFIGS, small_tokenizer

TEXTS = ["The ferry leaves the island at dawn.", "Bread rises faster in a warm room, but not in a cold one.", "Rain."]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny random model on disk, with a tokenizer of 90 tokens."""
    folder = tmp_path_factory.mktemp("tiny")
    config = CONFIGS["llama"].__class__(**(CONFIGS["llama"].to_dict() | {"max_position_embeddings": 2048}))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = tf.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.25)
    model.save_pretrained(folder)
    small_tokenizer([one.query for one in grammar()]).save_pretrained(folder)
    return folder


@pytest.fixture
def study(folder, tmp_path):
    return Study(tmp_path / "results", {"tiny": str(folder)}, quick=True)


def test_the_triplets_are_those_of_the_grammar():
    made = list(grammar())
    kept = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    assert [vars(one) for one in made] == kept
    assert len({(one.query, one.positive, one.negative) for one in made}) == len(made)
    for kind in KINDS:
        of_kind = [one for one in made if one.kind == kind]
        assert len({one.query for one in of_kind}) == len(of_kind) == 240


def test_a_triplet_differs_where_its_kind_says():
    for one in grammar():
        opening, rest = one.opening, one.query.removeprefix(one.opening)
        assert len(opening.split()) <= 11
        assert len(rest.split()) >= 10
        assert one.positive != one.query
        if one.kind == "early":
            assert one.negative.endswith(rest)
            assert not one.negative.startswith(opening)
        else:
            assert one.negative.startswith(f"{opening},")
            assert not one.negative.endswith(rest)
        assert one.positive.startswith(f"{opening},") == (one.kind == "twins") or one.kind == "late"


def test_words_alone_do_not_tell_which_text_means_the_same():
    """A bag of words is right in far fewer than half of both structures, so what tells is more than shared words."""

    def alike(a, b):
        a, b = (set(re.findall(r"\w+", text.lower())) for text in (a, b))
        return len(a & b) / (len(a) * len(b)) ** 0.5

    for kind in ("early", "late"):
        rows = [one for one in grammar() if one.kind == kind]
        right = np.mean([alike(one.query, one.positive) > alike(one.query, one.negative) for one in rows])
        assert right < 0.25


def test_samples_of_triplets_do_not_overlap():
    first, second = (triplets("early", sample, 100) for sample in (0, 1))
    assert not {one.query for one in first} & {one.query for one in second}
    with pytest.raises(ValueError, match="no sample 2 of 100 triplets of the kind 'early'"):
        triplets("early", 2, 100)


def test_one_pass_gives_every_pooling_as_the_encoder_does(study):
    config = EchoConfig.preset("late-echo")
    found = pooled(study.encoder("tiny", config), TEXTS, ["mean", "last"])
    for vectors, pooling in zip(found, ("mean", "last"), strict=True):
        alone = study.encoder("tiny", config.replace(pooling=pooling)).encode_documents(TEXTS)
        np.testing.assert_allclose(vectors, alone, atol=1e-5)
    states = token_states(study.encoder("tiny", config), TEXTS)
    np.testing.assert_allclose(unit(np.stack([state.mean(axis=0) for state in states])), found[0], atol=1e-5)


def test_a_copy_is_the_same_however_many_copies_follow_it(study):
    """Under causal attention the second of four copies is the last of two; of each it is the mean that is kept."""

    def config(number):
        return EchoConfig(template="Rewrite: {text}" + "\nAgain: {text}" * (number - 1))

    found = copies(study.encoder("tiny", config(4)), TEXTS)
    assert len(found) == 4
    for number, vectors in enumerate(found, start=1):
        alone = study.encoder("tiny", config(number)).encode_documents(TEXTS)
        np.testing.assert_allclose(vectors, alone, atol=1e-5)
        assert np.abs(vectors - found[number % 4]).max() > 1e-3


def test_identical_openings_have_one_classical_vector_and_several_echo_vectors(study):
    rows = {kind: triplets(kind, 0, 4) for kind in KINDS}
    found = {}
    for name, config in structures_experiment.CONFIGS.items():
        encoder = study.encoder("tiny", config)
        found |= structures_experiment.measured(encoder, name, rows)
    assert structures_experiment.opening_tokens(encoder, rows["twins"][0]) > 5
    for side in found["classical mean"]["twins"]:
        np.testing.assert_allclose(side, 1, atol=1e-6)
    for name in ("echo mean", "late echo"):
        positive, negative = np.array(found[name]["twins"])
        assert (np.abs(positive - negative) > 1e-5).all()
        assert positive.max() < 1 - 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_draws_of_prompts_differ_and_are_always_the_same(method):
    found = draws(method, 12)
    assert len({one.text for one in found}) == 12
    assert found == draws(method, 12)
    assert found[:5] == draws(method, 5)
    assert found != draws(method, 12, seed=1)
    for number, one in enumerate(found):
        assert one.copies == (2 if method == "echo" else 1)
        assert one.spaced or method == "PromptEOL"
        assert one.text.lower().startswith(VERBS[method][number % 4])
        assert one.pool_tail == (method == "PromptEOL")


def test_attention_of_an_experiment_sums_to_1(folder):
    found = attention_experiment.measured(str(folder), attention_experiment.CONFIGS["late echo"], TEXTS)
    assert found["layers"] == [5]
    np.testing.assert_allclose(np.array(found["shares"]).sum(axis=-1), 1, atol=1e-3)


OWN_DATA = ["structures", "prompts", "attention", "repetitions", "sizes", "sample_efficiency"]
ELSEWHERE = ["methods"]  # tests/research/test_methods.py
WITH_DATA = [name for name in ORDER if name not in (*OWN_DATA, *ELSEWHERE)]

SMALLER = {
    "structures": {"QUICK_SIZE": 2},
    "prompts": {"QUICK_SIZE": 1, "DRAWS": 2, "SIZE": 1, "PAIRS": 8},
    "attention": {"QUICK_SIZE": 2, "SIZE": 2},
    "repetitions": {"QUICK_SIZE": 1, "SIZE": 1, "PAIRS": 8},
    "pooling": {"SIZE": 8},
    "halves": {"SIZE": 10},
    "budgets": {"BUDGETS": (16, 32), "QUERIES": 2, "DOCUMENTS": 4},
    "layers": {"STARTS": (0.0, 0.6), "PAIRS": 8, "QUERIES": 2, "DOCUMENTS": 4},
    "languages": {
        "STS": ("en", "de"),
        "XQUAD": ("de",),
        "TATOEBA": ("deu",),
        "PAIRS": 8,
        "QUERIES": 2,
        "DOCUMENTS": 4,
        "SENTENCES": 5,
    },
    "lengths": {"LENGTHS": (16, 64), "DOCUMENTS": 3},
    "sizes": {"TOKENS": 2},
}


@pytest.fixture
def small(monkeypatch):
    """Experiments on next to nothing."""
    for name, constants in SMALLER.items():
        for constant, value in constants.items():
            monkeypatch.setattr(f"research.paper.experiments.{name}.{constant}", value)
    tiny_shape = sizes_experiment.Shape("none", 64, 3, 4, 2, 96, 50)
    monkeypatch.setattr(sizes_experiment, "SHAPES", dict.fromkeys(("1B", "7B", "70B"), tiny_shape))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of data made of the triplets: their scores and judgements mean nothing."""
    folder = tmp_path_factory.mktemp("data")
    rows = [one for one in grammar() if one.kind == "twins"]
    (folder / "sts").mkdir()
    for name in ("stsb_en", "sick_trial", "stsb_de"):
        lines = [f"{number % 6}\t{one.query}\t{one.positive}" for number, one in enumerate(rows[:40])]
        (folder / "sts" / f"{name}.tsv").write_text("\n".join(["score\tsentence1\tsentence2", *lines]), "utf-8")
    for name in ("scitldr", "qmsum_val_long", "xquad_de"):
        (folder / "retrieval" / name / "qrels").mkdir(parents=True)
        found = [(f"d{number}", one.query, f"q{number}", one.positive) for number, one in enumerate(rows[:8])]
        texts = {"corpus": [row[:2] for row in found], "queries": [row[2:] for row in found]}
        for file, of_file in texts.items():
            lines = [json.dumps({"_id": id_, "text": text}) for id_, text in of_file]
            (folder / "retrieval" / name / f"{file}.jsonl").write_text("\n".join(lines), "utf-8")
        judged = [f"{row[2]}\t{row[0]}\t1" for row in found]
        qrels = folder / "retrieval" / name / "qrels" / "test.tsv"
        qrels.write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]), "utf-8")
    (folder / "bitext").mkdir()
    translations = "\n".join(f"{one.query}\t{one.positive}" for one in rows[:8])
    (folder / "bitext" / "tatoeba_deu-eng.tsv").write_text(translations, "utf-8")
    return folder


def files_of(study):
    return {path.name: path.read_bytes() for path in study.output.iterdir() if path.name != MEASUREMENTS}


def test_a_run_that_was_killed_goes_on_and_two_runs_are_equal_byte_by_byte(folder, tmp_path, small, monkeypatch):
    # Times differ from run to run, all else does not.
    monkeypatch.setattr(sizes_experiment, "checked", lambda shape: {"bytes": 8 * shape.layer, "seconds": 0.5})
    models = {"tiny": str(folder)}
    whole = Study(tmp_path / "whole", models, quick=True)
    command.run(whole, OWN_DATA)
    lines = (whole.output / MEASUREMENTS).read_bytes().splitlines(keepends=True)

    killed = Study(tmp_path / "killed", models, quick=True)
    killed.output.mkdir()
    half = len(lines) // 2
    (killed.output / MEASUREMENTS).write_bytes(b"".join(lines[:half]) + lines[half][:20])
    command.run(Study(killed.output, models, quick=True), OWN_DATA)
    assert files_of(killed) == files_of(whole)

    measured = (killed.output / MEASUREMENTS).read_bytes()
    command.run(Study(killed.output, models, quick=True, measure=False))
    assert files_of(killed) == files_of(whole)
    assert (killed.output / MEASUREMENTS).read_bytes() == measured
    report = (whole.output / "README.md").read_text(encoding="utf-8")
    for name in OWN_DATA:
        assert name == "sizes" or f"]({name}-" in report
    assert f"Not measured yet: {', '.join([*ELSEWHERE, *WITH_DATA])}." in report


def test_experiments_that_need_data_run_on_it(folder, data, tmp_path, small, monkeypatch):
    study = Study(tmp_path, {"tiny": str(folder)}, data)
    judge = study.encoder("tiny", EchoConfig.preset("echo"))
    monkeypatch.setattr("research.paper.experiments.halves.EchoEncoder", lambda **_: judge)
    command.run(study, [*WITH_DATA, "prompts", "repetitions"])
    report = (tmp_path / "README.md").read_text(encoding="utf-8")
    for name in (*WITH_DATA, "prompts"):
        assert f"]({name}-" in report, name
    assert "](prompts-sts.svg)" in report
    assert "nan" not in report
    # What one pass gives for all exits is what the encoder gives for one of them.
    values = [json.loads(line) for line in (tmp_path / MEASUREMENTS).read_text(encoding="utf-8").splitlines()]
    of_layers = next(one["value"] for one in values if one.get("experiment") == "layers")
    pairs = study.pairs("stsb_en", 0, SMALLER["layers"]["PAIRS"])
    exit_3 = study.encoder("tiny", EchoConfig.preset("echo").replace(exit_layer=3)).encode_documents(pairs.texts[0])
    assert of_layers["scores"]["3"] == pytest.approx(spearman(pairs, exit_3), abs=0.01)


def test_the_log_gives_the_curves_of_fine_tuning():
    arms = sample_efficiency_experiment.logged(sample_efficiency_experiment.LOG.read_text(encoding="utf-8"))
    assert [arm.run.split(",")[0] for arm in arms if arm.name == "classical"] == ["16 steps", "40 steps", "300 steps"]
    last = arms[-1]
    assert (last.name, last.steps, last.sts) == ("echo, same compute", 150, (78.9, 78.3, 79.6))
    found = sample_efficiency_experiment.curves(arms)
    assert found["STS"]["classical"] == ([0.0, 16.0, 40.0, 300.0], [39.4, 45.8, 56.1, 69.6])


def test_the_plan_of_a_shape_is_what_a_model_of_it_has():
    shape = sizes_experiment.Shape("none", 64, 3, 4, 2, 96, 50)
    model = tf.AutoModel.from_config(shape.config(shape.layers, shape.vocabulary))
    assert shape.body == sum(one.numel() for one in model.parameters())
    assert shape.layer == sum(one.numel() for one in model.layers[0].parameters())
    assert sizes_experiment.split(shape) == {"devices": 1, "parameters": shape.body}
    found = sizes_experiment.checked(shape)
    assert found["bytes"] == 4 * sizes_experiment.LAYERS * shape.layer
    assert found["seconds"] > 0
    assert round(sizes_experiment.SHAPES["7B"].body / 1e9, 2) == 7.11  # 7.24 with its head


def test_accuracy_of_translations():
    a = np.eye(3, dtype=np.float32)
    assert languages_experiment.accuracy(a, a) == 100
    assert languages_experiment.accuracy(a, a[[0, 2, 1]]) == pytest.approx(33.3333)


def test_halves_and_rank_errors():
    assert halves_experiment.halves("a b c d e") == ("a b", "c d e")
    assert halves_experiment.halves("a") == ("a", "")
    np.testing.assert_allclose(halves_experiment.rank_errors([0.9, 0.1, 0.5], [1, 2, 3]), [200 / 3, -100 / 3, -100 / 3])


def test_echo_reads_half_of_a_budget():
    assert {name: budgets_experiment.matched(name, 64).max_length for name in CONFIGS_OF_PAPER} == {
        "classical": 64,
        "echo": 32,
        "late echo": 64,
    }


def test_what_was_not_measured_is_said(study):
    study.measure = False
    command.run(study)
    report = (study.output / "README.md").read_text(encoding="utf-8")
    needing = [name for name in ORDER if name != "sample_efficiency"]
    assert f"Not measured yet: {', '.join(needing)}." in report
    assert report.count("## ") == 1


def test_a_report_has_as_many_samples_as_are_measured(folder, data, tmp_path, small):
    def run(**how):
        command.run(Study(tmp_path, {"tiny": str(folder)}, data, **how), ["pooling"])
        return (tmp_path / "README.md").read_text(encoding="utf-8")

    assert "of one sample of 8 pairs" in (first := run(most_samples=1))
    lines = (tmp_path / MEASUREMENTS).read_text(encoding="utf-8").splitlines()
    assert "of 2 samples of 8 pairs" in (both := run(most_samples=2))
    assert (tmp_path / MEASUREMENTS).read_text(encoding="utf-8").splitlines()[: len(lines)] == lines
    # Fewer asked for than there are: nothing is measured, and all are reported.
    assert run(most_samples=1) == both != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "gemma"], "--model 'gemma': give a name for the report and a folder, such as"),
        (["--model", "gemma="], "--model 'gemma=': give a name for the report and a folder"),
        (["--model", "gemma=not/there/at/all"], "there is no folder 'not/there/at/all'; give one with config.json and"),
        (["--model", "gemma=."], "--model 'gemma=.': the folder has no config.json"),
        (["--model", "SmolLM2-135M=a/b"], "'SmolLM2-135M' is the name of another model; each has its own"),
        (["--model", "a=a/b", "--model", "a=c/d"], "'a' is the name of another model; each has its own"),
        (["--only", "everything"], "invalid choice: 'everything'"),
        (["--samples", "0"], "'0' is no whole number of at least 1"),
        (["--methods", "Echo"], "--methods 'Echo': there is no such method; there are classical, mean, "),
        (["not-there"], "not-there has none of the folders sts, retrieval, bitext; give a folder with data in them"),
        (["--output", "file"], "--output file is a file; give a folder"),
    ],
)
def test_wrong_arguments_are_said_before_anything_is_measured(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_data_that_are_missing_or_damaged_do_not_stop_the_other_experiments(folder, data, tmp_path, small, capsys):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "sts" / "sick_trial.tsv").unlink()
    (tmp_path / "data" / "bitext" / "tatoeba_deu-eng.tsv").write_text("a\tb\nc\n")
    (tmp_path / "data" / "retrieval" / "qmsum_val_long" / "corpus.jsonl").write_text("{}\n")
    study = Study(tmp_path / "out", {"tiny": str(folder)}, tmp_path / "data")
    command.run(study, ["pooling", "lengths", "sample_efficiency"])
    said = capsys.readouterr().out
    assert f"pooling was not measured: sts/sick_trial.tsv: there is none in {tmp_path / 'data'}" in said
    assert re.search(r"lengths was not measured: .*corpus.jsonl:1: this line is not an object with _id and text", said)
    with pytest.raises(InputError, match="tatoeba_deu-eng.tsv:2: this row has 1 cells; a translation has 2"):
        study.translations("tatoeba_deu-eng", 1)
    assert "## " in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_lines_that_are_no_measurements_are_named_and_passed_over(tmp_path, capsys):
    whole = json.dumps({"experiment": "x", "key": {"a": 1}, "value": 7, "environment": 2})
    environment = json.dumps({"number": 2, "environment": {"processor": "another"}})
    damaged = [b"\xff\xfe", b"5", b"[]", b'{"experiment": "x"}', b'{"number": 1}', b'{"experim']
    lines = [environment.encode(), *damaged[:3], whole.encode(), b"", *damaged[3:]]
    (tmp_path / MEASUREMENTS).write_bytes(b"\n".join(lines))
    study = Study(tmp_path, {})
    said = capsys.readouterr().out
    assert all(f"{MEASUREMENTS}:{number} is" in said for number in (2, 3, 4, 7, 8, 9))
    assert said.count("is passed over: it is no measurement") == len(damaged)
    assert study.once("x", {"a": 1}, lambda: 8) == 7
    # Two runs into one output at the same time: each environment has a number of its own, and each line is whole.
    other = Study(tmp_path, {})
    assert (study.once("x", {"a": 2}, lambda: 1), other.once("x", {"a": 3}, lambda: 2)) == (1, 2)
    rows = [json.loads(line) for line in (tmp_path / MEASUREMENTS).read_bytes().splitlines()[-3:]]
    assert [row.get("number", row["environment"]) for row in rows] == [3, 3, 3]


def test_what_was_measured_on_other_data_does_not_count(tmp_path):
    study, key = Study(tmp_path, {}), {"data": "stsb"}
    assert study.once("x", key, lambda: 1, "first") == study.once("x", key, lambda: 0, "first") == 1
    assert study.once("x", key, lambda: 2, "second") == 2
    again = Study(tmp_path, {}, measure=False)
    assert [again.once("x", key, lambda: 0, data) for data in ("first", "second", None)] == [1, 2, 2]
    with pytest.raises(NotMeasured):
        again.once("x", key, lambda: 0, "third")
    assert study.once("x", {}, lambda: 3) == study.once("x", {}, lambda: 0, "any") == 3
