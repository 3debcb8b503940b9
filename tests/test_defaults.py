"""Which config belongs to a model or an adapter, and what is lost under another."""

import shutil

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder, LeftOutWarning, Project, Truncate
from echo_embeddings.defaults import config_for
from echo_embeddings.model.spec import ModelSpec
from tests.architectures import tiny
from tests.conftest import cosines

CONFIG = EchoConfig.preset("late-echo").replace(transforms=(Project(np.eye(32)[:, :16]),))


@pytest.fixture(scope="module")
def base(builtin_folder, tmp_path_factory):
    """A folder with a tiny model, which has no echo config."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
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
    assert config_for(ModelSpec(adapter="some/adapter")) == EchoConfig.preset("zero-shot")


def test_a_config_over_the_one_beside_an_adapter_is_said(adapter, base):
    with pytest.warns(LeftOutWarning, match=rf"that is saved in '{adapter}', and leaves out its map Project"):
        EchoEncoder(base, "late-echo", adapter=adapter)
