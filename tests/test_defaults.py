"""Which config belongs to a model or an adapter, and what is lost under another."""

import re
import shutil

import numpy as np
import peft
import pytest
import torch
import transformers as tf
from transformers import AutoModel

from echo_embeddings import EchoConfig, EchoEncoder, LeftOutWarning, ModelError, Project, Truncate, notices
from echo_embeddings.config.recipes import Facts, recipe_for
from echo_embeddings.defaults import choice_for, known_choice
from echo_embeddings.model.skeleton import why_no_late_echo
from echo_embeddings.model.spec import ModelSpec
from tests.architectures import CONFIGS, HYBRID, small_tokenizer, tiny, word_tokenizer
from tests.conftest import TEXTS, cosines

CONFIG = EchoConfig.preset("late-echo").replace(transforms=(Project(np.eye(32)[:, :16]),))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a tiny model, which has no echo config."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = word_tokenizer(TEXTS)
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """A folder with a tiny model and a map that was trained for it."""
    folder = tmp_path_factory.mktemp("trained")
    EchoEncoder(base, CONFIG, dtype="float32").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    """A folder with an adapter and the config that it was trained with, as training writes it."""
    folder = tmp_path_factory.mktemp("adapter")
    tuned = peft.get_peft_model(AutoModel.from_pretrained(base), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    tuned.save_pretrained(folder)
    CONFIG.save(folder)
    return folder


# --- a config over what was trained -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["echo", "late-echo", CONFIG.replace(transforms=())])
def test_a_config_that_leaves_out_the_trained_map_of_a_folder_is_said(trained, config):
    message = r"takes the place of the config that is saved in .* leaves out its map Project\(weight\[32x16\]"
    with pytest.warns(LeftOutWarning, match=message) as seen:
        EchoEncoder(trained, config)
    assert [warning.filename for warning in seen] == [__file__]


def test_configs_that_leave_nothing_out_are_silent(trained, base):
    saved = EchoConfig.load(trained)
    EchoEncoder(trained)
    EchoEncoder(trained, saved.replace(max_length=64))
    EchoEncoder(trained, saved, dimensions=8)
    EchoEncoder(base, "echo")


def test_an_adapter_under_another_template_is_said(adapter, tmp_path):
    plain = shutil.copytree(adapter, tmp_path / "plain")
    EchoConfig.preset("late-echo").save(plain)
    with pytest.warns(LeftOutWarning, match="was trained with the config .* has another template and pooling"):
        EchoEncoder(plain, EchoConfig.preset("late-echo").replace(template="a {text} b {text}", pooling="last"))
    EchoEncoder(plain, EchoConfig.preset("late-echo").replace(max_length=9))


def test_transforms_that_replace_a_trained_map_are_said():
    for transforms in ((Truncate(8),), [Truncate(8)]):
        with pytest.warns(LeftOutWarning, match=r"leaves out the map Project.* config\.truncated\(256\)"):
            assert CONFIG.replace(transforms=transforms).transforms == (Truncate(8),)
    assert CONFIG.replace(transforms=()).transforms == ()
    assert CONFIG.replace(transforms=(*CONFIG.transforms, Truncate(8))) == CONFIG.truncated(8)


# --- adapters ---------------------------------------------------------------------------------------------------------


def test_the_config_beside_an_adapter_belongs_to_it(adapter, base, trained, texts):
    for model in (base, trained):
        assert EchoEncoder(model, adapter=adapter).config == CONFIG
    expected = EchoEncoder(adapter, dtype="float32").encode_documents(texts)
    found = EchoEncoder(base, adapter=adapter, dtype="float32").encode_documents(texts)
    np.testing.assert_array_equal(found, expected)
    assert cosines(found, EchoEncoder(base, CONFIG, dtype="float32").encode_documents(texts)).min() < 0.99
    assert choice_for(ModelSpec(adapter="some/adapter")).config == EchoConfig.preset("zero-shot")


def test_a_config_over_the_one_beside_an_adapter_is_said(adapter, base):
    with pytest.warns(LeftOutWarning, match=rf"that is saved in '{adapter}', and leaves out its map Project"):
        EchoEncoder(base, "late-echo", adapter=adapter)


# --- a model without a saved config -----------------------------------------------------------------------------------

SHORT = TEXTS[:2]
RULE = EchoConfig.preset("any-model")
WITHOUT_LATE_ECHO = RULE.replace(start_layer=0, exit_layer=None)


@pytest.fixture
def said(monkeypatch, caplog):
    """What is said once a process, for a process that has said nothing yet."""
    monkeypatch.setattr(notices, "_said", set())
    caplog.set_level("INFO", "echo_embeddings")
    return lambda: [record.getMessage() for record in caplog.records if "no saved config" in record.getMessage()]


def save(model, folder):
    """Save a tiny model with a tokenizer."""
    model.save_pretrained(folder)
    small_tokenizer(TEXTS * 3).save_pretrained(folder)
    return folder


def test_a_model_without_a_config_is_run_by_the_rule_and_that_is_said_once(tmp_path, said):
    folder = save(tiny("llama"), tmp_path / "m")
    encoder = EchoEncoder(folder, dtype="float32")
    assert encoder.known_config == encoder.config == RULE
    assert said() == [], "nothing is said before it is used"
    found = encoder.encode_documents(SHORT)
    assert found.shape == (len(SHORT), 32 + RULE.lexical.dimension)
    np.testing.assert_array_equal(found, EchoEncoder(folder, "any-model", dtype="float32").encode_documents(SHORT))
    assert EchoEncoder(folder, dtype="float32").dimension == found.shape[1]
    (message,) = said()
    assert re.match(
        rf"{folder} has no saved config, so it is run by the rule for any model: late echo from 0\.6 to 0\.8 "
        r"of the depth, words of length 0\.5 beside it\.",
        message,
    )
    assert f"echo-embeddings tune {folder} TEXTS --output NEW" in message
    assert "config='echo' is the paper's method" in message
    assert repr(encoder).startswith(f"EchoEncoder('{folder}', config='any-model'")
    assert "any-model (nothing is saved with the model)" in encoder.describe()


def test_of_a_model_that_embeds_already_it_is_said_that_its_own_way_is_not_taken(tmp_path, said):
    folder = save(tiny("llama"), tmp_path / "m")
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Transformer"}]')
    EchoEncoder(folder, dtype="float32").encode_documents("a")
    (message,) = said()
    assert f". {folder} was made as an embedding model for sentence-transformers (modules.json), and" in message
    assert message.endswith("are not used here: SentenceTransformer(model) runs it with those")


def test_a_config_that_is_given_or_saved_is_no_news(tmp_path, said):
    folder = save(tiny("llama"), tmp_path / "m")
    EchoEncoder(folder, "echo").encode_documents("a")
    encoder = EchoEncoder(folder)
    encoder.with_config(RULE).encode_documents("a")
    assert said() == []
    encoder.save_pretrained(tmp_path / "saved")
    assert len(said()) == 1
    again = EchoEncoder(tmp_path / "saved")
    assert (again.config.start_layer, again.config.exit_layer) == (4, 5)
    assert again.config.lexical == RULE.lexical
    assert (again.encode_documents(SHORT) == encoder.encode_documents(SHORT)).all()
    assert len(said()) == 1


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "mistral-window"])
def test_every_architecture_of_late_echo_is_known_without_looking(name, tmp_path):
    CONFIGS[name].save_pretrained(tmp_path)
    (choice, spec) = known_choice(ModelSpec(str(tmp_path))), ModelSpec(str(tmp_path))
    assert choice is not None
    assert choice.config == RULE
    assert why_no_late_echo(spec, RULE) == "", "and looking says the same"


def test_a_loaded_model_has_the_same_rule(said):
    encoder = EchoEncoder(tiny("llama"), tokenizer=small_tokenizer(TEXTS * 3))
    assert encoder.known_config == RULE
    assert encoder.encode_documents("a").shape == (32 + RULE.lexical.dimension,)
    assert "LlamaModel: has no saved config" in said()[0]
    peft_model = peft.get_peft_model(tiny("llama"), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    assert choice_for(ModelSpec(peft_model, "tokenizer")).config == RULE


def test_a_recipe_goes_before_the_rule(tmp_path, said):
    config = tf.LlamaConfig(hidden_size=576, num_hidden_layers=30)
    config.save_pretrained(tmp_path)
    choice = choice_for(ModelSpec(str(tmp_path)))
    assert choice.config == recipe_for(Facts("llama", 576, 30)).config
    assert (
        "is run by the recipe for SmolLM2 135M, base or instruct: late echo, layers 18 to 24, words of" in choice.notice
    )


MAMBA = tf.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=6, state_size=4)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (MAMBA, r"late echo does not know how to run MambaBlock \(its arguments: cache_params\)"),
        (HYBRID, r"late echo does not know layers of the kind 'linear_attention'"),
        (
            tf.LlamaConfig(**(CONFIGS["llama"].to_dict() | {"num_hidden_layers": 3})),
            r"start_layer=0\.6 and exit_layer=0\.8 mean layers 2 and 2",
        ),
    ],
    ids=["mamba", "hybrid", "few layers"],
)
def test_where_late_echo_cannot_run_the_tokens_are_repeated_with_words_beside(config, why, tmp_path, said):
    folder = save(tf.AutoModel.from_config(config), tmp_path / "m")
    encoder = EchoEncoder(folder, dtype="float32")
    assert encoder.known_config is None, "its layers have to be looked at"
    assert encoder.config == WITHOUT_LATE_ECHO
    assert encoder.encode_documents(SHORT).shape == (2, 32 + RULE.lexical.dimension)
    (message,) = said()
    assert re.search(rf"the rule for any model, without late echo \({why}", message)
    assert "the text twice, as in the paper, words of length 0.5 beside it" in message
    loaded = EchoEncoder(tf.AutoModel.from_config(config).eval(), tokenizer=small_tokenizer(TEXTS * 3))
    assert loaded.config == WITHOUT_LATE_ECHO


def test_an_attention_that_late_echo_cannot_narrow_goes_back_to_the_paper(tmp_path):
    CONFIGS["llama"].save_pretrained(tmp_path)
    spec = ModelSpec(str(tmp_path), model_kwargs={"attn_implementation": "flex_attention"})
    assert known_choice(spec) is None
    assert choice_for(spec).config == WITHOUT_LATE_ECHO
    assert choice_for(ModelSpec(str(tmp_path), model_kwargs={"attn_implementation": "eager"})).config == RULE


def test_an_adapter_has_the_recipe_of_its_base(base, tmp_path):
    tuned = peft.get_peft_model(AutoModel.from_pretrained(base), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    tuned.save_pretrained(tmp_path)
    assert choice_for(ModelSpec(str(tmp_path))).config == RULE
    assert choice_for(ModelSpec(str(base), adapter=str(tmp_path))).config == RULE


def test_a_damaged_config_is_said_by_name(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json"):
        EchoEncoder(tmp_path).encode_documents("a")


def test_an_unknown_architecture_is_looked_at_without_its_weights(tmp_path):
    tf.OPTConfig(vocab_size=97, hidden_size=32, num_hidden_layers=6, num_attention_heads=4).save_pretrained(tmp_path)
    spec = ModelSpec(str(tmp_path))
    assert known_choice(spec) is None
    assert choice_for(spec).config == RULE
