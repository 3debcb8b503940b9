"""tune: from a model and texts to a config, on a tiny random model."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, EncoderOptions, tune
from echo_embeddings.cli.app import app
from echo_embeddings.config.config import Layers
from echo_embeddings.errors import InputError
from echo_embeddings.tuning.candidates import PASSES, TRANSFORMS, candidates
from tests.architectures import small_tokenizer, tiny

WORDS = [
    "the",
    "ferry",
    "leaves",
    "at",
    "dawn",
    "a",
    "short",
    "one",
    "naive",
    "cafe",
    "def",
    "add",
    "return",
    "spaces",
    "around",
    "user",
    "ignore",
    "all",
    "that",
    "island",
]
FLOAT32 = EncoderOptions(dtype="float32", on_truncate="ignore")


def some_texts(count):
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, size=24)) for _ in range(count)]


TEXTS = some_texts(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny("llama", max_position_embeddings=1024, tie_word_embeddings=True).save_pretrained(folder)
    small_tokenizer(TEXTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(folder):
    return tune(folder, TEXTS, options=FLOAT32, minutes=60)


def test_cost_is_counted_in_classical_passes():
    late, one_word = PASSES[0], PASSES[1]
    layers = Layers(start=18, exit=30, depth=30, final_norm=True)
    assert late.cost(24, layers) == pytest.approx((24 + 6) / 30)
    assert late.cost(30, layers) == pytest.approx((30 + 12) / 30)
    assert one_word.cost(29, Layers(0, 30, 30, final_norm=True)) == pytest.approx(29 / 30)
    kept = [exit_ for exit_, _ in candidates(late, layers, max_cost=1.1)]
    assert kept == list(range(1, 7)), "exits 20 to 25: 19 is below 0.65 of the depth, and 26 costs more"


def test_every_configuration_is_tried(tuned):
    of_passes = [one.candidate for one in tuned.tried if not one.words]
    assert {one.of for one in of_passes} == set(PASSES)
    assert {one.transform for one in of_passes} == set(TRANSFORMS)
    assert max(one.cost for one in of_passes) <= 1.1
    assert len(set(of_passes)) == len(of_passes)
    scores = [one.score for one in tuned.tried if not one.words]
    assert scores == sorted(scores, reverse=True)
    assert tuned.skipped == []


def test_the_encoder_has_the_best_config(tuned):
    best, config = tuned.tried[0].candidate, tuned.encoder.config
    assert config.templates[0] == best.of.template
    assert (config.start_layer, config.exit_layer) == (best.start, best.exit)
    assert config.pooling == best.of.pooling
    assert bool(config.transforms) == (best.transform != "none")
    assert tuned.best.candidate == best
    assert tuned.encoder.encode_documents(TEXTS[:2]).shape == (2, tuned.encoder.dimension)


def test_a_number_is_that_of_an_encoder(tuned, folder):
    """What one pass gives for all exits is what an encoder with that config gives."""
    from echo_embeddings.tuning.halves import Halves, usable

    halves = Halves.of(usable(TEXTS, 500)[:30], 64)
    for one in [one for one in tuned.tried if one.candidate.transform == "none" and not one.words][::5]:
        encoder = EchoEncoder(folder, one.candidate.config(512), dtype="float32")
        measured = halves.measure(encoder.encode_documents(halves.texts))
        np.testing.assert_allclose(measured, (one.found, one.of_whole), atol=1e-4)


def test_a_second_run_gives_the_same(tuned, folder, tmp_path):
    again = tune(folder, TEXTS, options=FLOAT32, minutes=60)
    assert again.tried == tuned.tried
    for number, found in enumerate((tuned, again)):
        found.encoder.save_pretrained(tmp_path / str(number))
    one, other = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in "01")
    assert [path.name for path in one] == [path.name for path in other]
    for a, b in zip(one, other, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
    expected = tuned.encoder.encode_documents(TEXTS[:3])
    np.testing.assert_allclose(EchoEncoder(tmp_path / "0").encode_documents(TEXTS[:3]), expected, atol=1e-6)


def test_without_time_the_first_pass_is_tried_and_the_rest_is_named(folder):
    found = tune(folder, TEXTS, options=FLOAT32, minutes=1e-9)
    assert found.skipped == list(PASSES[1:])
    assert {one.candidate.of for one in found.tried} == {PASSES[0]}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": TEXTS[:9]}, InputError, "of these 9 texts, 9 are different"),
        ({"texts": "one text"}, TypeError, "list of texts"),
        ({"minutes": 0}, ConfigError, "minutes=0: give a number above 0"),
        ({"max_cost": float("nan")}, ConfigError, "max_cost=nan: give a number above 0"),
        ({"max_cost": 0.01}, ConfigError, "max_cost=0.01 leaves no configuration"),
        ({"passes": []}, ConfigError, "leaves nothing to try"),
    ],
)
def test_bad_arguments(folder, arguments, error, message):
    with pytest.raises(error, match=message):
        tune(folder, **{"texts": TEXTS, "options": FLOAT32, "passes": PASSES[:1]} | arguments)


def test_the_command(folder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    target = tmp_path / "tuned"
    arguments = ["tune", str(folder), str(tmp_path / "texts.txt"), "--output", str(target), "--dtype", "float32"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f"wrote {target}; use it as EchoEncoder" in done.output.replace("\n", "")
    written = json.loads((target / "tuned.json").read_text())
    assert written["tried"][0]["score"] >= written["tried"][1]["score"]
    assert "<h2>classical</h2>" in (target / "tuned.html").read_text()
    assert EchoEncoder(target).config != EchoConfig.preset("echo")
    assert EchoEncoder(target).encode_documents("a").ndim == 1
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "exists; choose a folder that does not" in again.output
