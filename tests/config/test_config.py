import numpy as np
import pytest

from echo_embeddings import ConfigError, EchoConfig, EmbedFilter, Project, Standardize, Template, Truncate
from echo_embeddings.config.config import Layers

PRESETS = [
    "default",
    "zero-shot",
    "any-model",
    "echo",
    "late-echo",
    "echo-finetuned",
    "compute-matched",
    "classical",
    "classical-last",
    "classical-weighted",
    "prompt-eol",
    "pretended-cot",
    "knowledge-enhancement",
    "kv-embedding-prompt",
]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_exists_and_survives_saving(name, tmp_path):
    config = EchoConfig.preset(name)
    config.save(tmp_path)
    assert EchoConfig.load(tmp_path) == config
    assert EchoConfig.load(tmp_path).fingerprint() == config.fingerprint()


def test_presets_say_what_their_papers_say():
    assert EchoConfig.preset("echo").layers(30) == Layers(0, 30, 30, final_norm=True)
    assert EchoConfig.preset("late-echo").layers(30) == Layers(18, 24, 30, final_norm=False)
    assert EchoConfig.preset("pretended-cot").layers(32) == Layers(0, 31, 32, final_norm=False)
    assert EchoConfig.preset("compute-matched").max_length * 2 == EchoConfig.preset("echo").max_length
    assert {EchoConfig.preset(f"classical{p}").pooling for p in ("", "-last", "-weighted")} == {
        "mean",
        "last",
        "weighted_mean",
    }


@pytest.mark.parametrize(
    ("start", "exit_", "expected"),
    [
        (0, None, (0, 30, True)),
        (18, 24, (18, 24, False)),
        (0.6, 0.8, (18, 24, False)),
        (0.5, 1.0, (15, 30, True)),
        (0, -1, (0, 29, False)),
        (0, 30, (0, 30, True)),
    ],
)
def test_layers_are_resolved(start, exit_, expected):
    layers = EchoConfig("{text}\n{text}", start_layer=start, exit_layer=exit_).layers(30)
    assert (layers.start, layers.exit, layers.final_norm) == expected


def test_strings_become_templates():
    config = EchoConfig("A: {text}", query_template="B: {text}")
    assert config == EchoConfig(Template("A: {text}"), Template("B: {text}"))
    assert config.templates == (Template("A: {text}"), Template("B: {text}"))
    assert EchoConfig("A: {text}").templates[1] == Template("A: {text}")
    assert [config.template_for(role).text for role in ("document", "query")] == ["A: {text}", "B: {text}"]


def test_transforms_are_saved_bit_for_bit(tmp_path):
    mean = np.random.default_rng(0).normal(size=8).astype(np.float32)
    project = Project(np.outer(mean, mean[:6]), mean[:6])
    transforms = (Standardize(mean, np.exp(mean)), project, EmbedFilter.from_unembedding(np.eye(6), 1), Truncate(3))
    config = EchoConfig("{text}", transforms=transforms)
    config.save(tmp_path)
    loaded = EchoConfig.load(tmp_path)
    assert loaded == config
    np.testing.assert_array_equal(loaded.transforms[0].arrays["mean"], mean)
    np.testing.assert_array_equal(loaded.transforms[1].arrays["weight"], project.arrays["weight"])


def test_saving_again_without_arrays_leaves_none_behind(tmp_path):
    config = EchoConfig("{text}", transforms=(Standardize([0.0], [1.0]),))
    config.save(tmp_path)
    config.replace(transforms=()).save(tmp_path)
    assert EchoConfig.load(tmp_path).transforms == ()
    assert [path.name for path in tmp_path.iterdir()] == ["echo_config.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"template": "X: {text}"},
        {"query_template": "Q: {text}"},
        {"pooling": "last"},
        {"exit_layer": 3},
        {"final_norm": True},
        {"max_length": 7},
        {"transforms": (Truncate(3),)},
    ],
)
def test_every_field_changes_the_fingerprint(change):
    config = EchoConfig("A: {text}")
    assert config.replace(**change).fingerprint() != config.fingerprint()
    assert config.replace(**change) != config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "max"}, "pooling='max' is unknown; choose one of last, mean, mean_and_last, weighted_mean"),
        ({"start_layer": -1}, "start_layer=-1: give a layer number from 0, or a fraction"),
        ({"start_layer": 1.5}, "start_layer=1.5: a float is a fraction of the depth"),
        ({"start_layer": True}, "start_layer=True"),
        ({"start_layer": float("nan")}, "start_layer=nan: give a layer number from 0, or a fraction"),
        ({"start_layer": float("inf")}, "start_layer=inf: a float is a fraction of the depth"),
        ({"exit_layer": float("nan")}, "exit_layer=nan: a float is a fraction"),
        ({"final_norm": "yes"}, "final_norm='yes': give True, False or None"),
        ({"final_norm": 1}, "final_norm=1: give True, False or None"),
        ({"exit_layer": 0}, "exit_layer=0: give None"),
        ({"exit_layer": 1.2}, "exit_layer=1.2: a float is a fraction"),
        ({"exit_layer": "last"}, "exit_layer='last'"),
        ({"max_length": 0}, "max_length=0: give a whole number of at least 1"),
        ({"max_length": 2.5}, "max_length=2.5"),
        ({"template": "{text}", "start_layer": 3}, "start_layer=3 has no meaning for template '{text}'"),
    ],
)
def test_what_cannot_work_is_said(fields, message):
    with pytest.raises(ConfigError, match=message):
        EchoConfig(**({"template": "{text}\n{text}"} | fields))


def test_layers_must_fit_the_model():
    with pytest.raises(ConfigError, match="mean layers 20 and 12 of a model with 12; they must fulfil 0 <= start < ex"):
        EchoConfig("{text}\n{text}", start_layer=20).layers(12)


def test_wrong_types_are_type_errors():
    with pytest.raises(TypeError, match="a template must be a string or a Template, not int"):
        EchoConfig(3)
    with pytest.raises(TypeError, match=r"'standardize', which is no fitted Transform; EchoEncoder\.fit_transforms"):
        EchoConfig("{text}", transforms=("standardize",))


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="no preset 'ecko'; choose one of default, zero-shot, any-model, echo"):
        EchoConfig.preset("ecko")


def test_a_prompt_is_part_of_a_config_and_of_its_fingerprint(tmp_path):
    plain = EchoConfig.preset("echo")
    prompted = plain.replace(query_template=plain.templates[0].prompted("search_query: "))
    assert "prompt" not in plain.to_dict()["template"]  # else all fingerprints would be new
    assert prompted.fingerprint() != plain.fingerprint()
    prompted.save(tmp_path)
    assert EchoConfig.load(tmp_path) == prompted
