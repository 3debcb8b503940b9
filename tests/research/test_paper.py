"""The paper's experiments on a tiny random model: what they measure, and that a run goes on where it was killed."""

import json
import re

import numpy as np
import pytest
import torch
import transformers as tf

from echo_embeddings import EchoConfig
from research.paper import __main__ as command
from research.paper.experiments import ORDER
from research.paper.experiments import attention as attention_experiment
from research.paper.experiments import structures as structures_experiment
from research.paper.passes import copies, pooled, token_states, unit
from research.paper.prompts import METHODS, VERBS, draws
from research.paper.structures import FILE, KINDS, grammar, triplets
from research.paper.study import MEASUREMENTS, Study
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


@pytest.fixture
def small(monkeypatch):
    """Experiments on next to nothing."""
    for name in OWN_DATA:
        monkeypatch.setattr(f"research.paper.experiments.{name}.QUICK_SIZE", 2)
    monkeypatch.setattr("research.paper.experiments.prompts.DRAWS", 4)


OWN_DATA = ["structures", "prompts", "attention", "repetitions"]


def files_of(study):
    return {path.name: path.read_bytes() for path in study.output.iterdir() if path.name != MEASUREMENTS}


def test_a_run_that_was_killed_goes_on_and_two_runs_are_equal_byte_by_byte(folder, tmp_path, small):
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
        assert f"]({name}-" in report, name
    assert ("Not measured yet: nothing" in report) == (OWN_DATA == ORDER)


def test_what_was_not_measured_is_said(study):
    study.measure = False
    command.run(study)
    report = (study.output / "README.md").read_text(encoding="utf-8")
    assert f"Not measured yet: {', '.join(ORDER)}." in report
    assert "##" not in report
