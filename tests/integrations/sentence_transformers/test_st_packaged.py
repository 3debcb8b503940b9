"""The trained default as a SentenceTransformer: the packaged adapter is in the weights, and stays there."""

import json
import shutil

import numpy as np
import peft
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from echo_embeddings import ConfigError, DimensionsWarning, EchoConfig, EchoEncoder, ModelError, Project
from echo_embeddings.model import builtin
from sentence_transformers_echo import EchoModule, from_encoder, load, save
from sentence_transformers_echo.training import Data, Recipe, train
from tests.conftest import cosines


def everyone(folder, dtype):
    """The three loaders of a saved folder."""
    options = {"dtype": dtype}
    stock = SentenceTransformer(str(folder), trust_remote_code=True, model_kwargs=options)
    return [load(folder, model_kwargs=options).encode, stock.encode, EchoEncoder(folder, dtype=dtype).encode_documents]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_default_survives_saving(packaged_adapter, texts, tmp_path, dtype):
    encoder = EchoEncoder(dtype=dtype)
    texts = texts if dtype == "float32" else texts[:2]  # a processor without bf16 takes ten times as long
    expected = encoder.encode_documents(texts)
    alike = 0.9999 if dtype == "float32" else 0.999  # in other batches bf16 rounds otherwise
    assert cosines(from_encoder(encoder).encode(texts), expected).min() >= alike
    ways = {"own": encoder.save_pretrained, "st": lambda folder: save(encoder, folder)}
    for name in ways if dtype == "float32" else ["st"]:
        folder = tmp_path / name
        ways[name](folder)
        assert "packaged_adapter" not in json.loads((folder / "echo_config.json").read_text())
        for encode in everyone(folder, dtype):
            assert cosines(encode(texts), expected).min() >= alike


# peft 0.21 asks by the name that transformers has given up.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_trained_on_top_keeps_the_packaged_one_beneath(packaged_adapter, texts, tmp_path):
    model = from_encoder(EchoEncoder(dtype="float32"))
    plain = model.encode(texts)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["v_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(0))
    trained = model.encode(texts)
    assert cosines(plain, trained).min() < 0.9999
    save(model, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    for encode in everyone(tmp_path, "float32"):
        assert cosines(encode(texts), trained).min() > 0.9999
    short = EchoConfig.load(tmp_path).replace(max_length=64)
    assert cosines(EchoEncoder(tmp_path, short, dtype="float32").encode_documents(texts), trained).min() > 0.9999


def test_an_adapter_on_top_of_the_users_own_is_refused_where_it_would_be_saved_without_it(adapter_of_default, tmp_path):
    model = from_encoder(EchoEncoder(config="late-echo", adapter=adapter_of_default))
    save(model, tmp_path / "merged")
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["v_proj"]))
    with pytest.raises(ModelError, match="was trained on top of .* which is merged into the weights and would not be"):
        save(model, tmp_path / "lost")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"anchor": "a", "positive": "b"}\n')
    recipe = Recipe(data=(Data(str(pairs)),), output=str(tmp_path / "out"), model=str(adapter_of_default))
    with pytest.raises(ConfigError, match="is an adapter, and an adapter trained on top of it could not be loaded"):
        train(recipe, show_progress=False)


def test_truncate_dim_of_a_length_that_the_config_was_not_made_for_is_said(tiny_encoder):
    config = EchoConfig.preset("late-echo").replace(trained_dimensions=(32, 16))
    model = from_encoder(tiny_encoder(config))
    said = "dimensions=24: the config was made for 16, 32"
    with pytest.warns(DimensionsWarning, match=said):
        assert model.encode_query("a", truncate_dim=24).shape == (24,)
    model.truncate_dim = 24
    with pytest.warns(DimensionsWarning, match=said):
        model.encode(["a"])
    assert model.encode("a", truncate_dim=16).shape == (16,)


def test_an_adapter_may_name_the_built_in_model(adapter_of_default, texts, tmp_path):
    """By its name, which is the same on every machine, where a folder is not."""
    config = json.loads((adapter_of_default / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": builtin.NAME}))
    shutil.copy(adapter_of_default / "adapter_model.safetensors", tmp_path)
    expected = EchoEncoder(config="late-echo", adapter=adapter_of_default, dtype="float32")
    save(expected, tmp_path / "whole")
    for name in ("echo_config.json", "modules.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "whole" / name, tmp_path)
    for name in ("1_Pooling", "2_Normalize"):
        shutil.copytree(tmp_path / "whole" / name, tmp_path / name)
    wanted = expected.encode_documents(texts)
    for encode in everyone(tmp_path, "float32"):
        assert cosines(encode(texts), wanted).min() > 0.9999


def test_a_module_of_the_plain_weights_is_refused(packaged_adapter, builtin_folder):
    model, tokenizer = AutoModel.from_pretrained(builtin_folder), AutoTokenizer.from_pretrained(builtin_folder)
    with pytest.raises(ConfigError, match="packaged adapter 'default', which is not merged into this model"):
        EchoModule(model, tokenizer, EchoConfig.preset("default"))


def test_a_projection_runs_in_the_module_and_is_saved(tiny_encoder, texts, tmp_path):
    rng = np.random.default_rng(0)
    project = Project(rng.normal(size=(32, 12)), rng.normal(size=12))
    encoder = tiny_encoder().fit_transforms(texts, ["standardize", project])
    expected = encoder.encode_documents(texts)
    model = from_encoder(encoder)
    assert model.get_embedding_dimension() == 12
    assert cosines(model.encode(texts), expected).min() > 0.99999
    save(model, tmp_path)
    assert EchoConfig.load(tmp_path).transforms[1].digest() == project.digest()
    for encode in everyone(tmp_path, "float32"):
        assert cosines(encode(texts), expected).min() > 0.99999
