"""Files of a model and of an adapter that are damaged, incomplete, or written by an attacker."""

import builtins
import json
import pickle
import shutil
from contextlib import suppress

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, EchoError, ModelError
from tests.architectures import small_tokenizer, tiny

TEXTS = ["The ferry leaves at dawn.", "Bread is baked from flour."]
LATE = EchoConfig.preset("late-echo")  # runs 5 of the tiny model's 6 layers
CODE = """
import pathlib
from transformers import LlamaConfig
pathlib.Path({proof!r}).write_text("ran")
class A(LlamaConfig):
    pass
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    tiny("llama").save_pretrained(folder)
    small_tokenizer(TEXTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain_adapter(plain, tmp_path_factory):
    tuned = peft.get_peft_model(AutoModel.from_pretrained(plain), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    folder = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "model")


@pytest.fixture
def adapter(plain_adapter, tmp_path):
    return shutil.copytree(plain_adapter, tmp_path / "adapter")


@pytest.fixture(autouse=True)
def nothing_asks(monkeypatch):
    """A question on the terminal fails the test."""
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("asked on the terminal"))


def changed(path, **fields):
    """Change fields of a JSON file; ``None`` removes one."""
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def vectors(folder, config=LATE, **arguments):
    return EchoEncoder(folder, config, dtype="float32", **arguments).encode_documents(TEXTS)


# --- nothing runs, asks or fetches on behalf of a file ----------------------------------------------------------------


def test_code_in_a_folder_is_neither_run_nor_asked_about(folder, tmp_path):
    (folder / "evil.py").write_text(CODE.format(proof=str(tmp_path / "proof")))
    changed(folder / "config.json", auto_map={"AutoConfig": "evil.A", "AutoModel": "evil.A"}, model_type="evil")
    for kwargs in ({}, {"trust_remote_code": False}):
        with pytest.raises(ModelError, match=r"needs code that is in its files .* model_kwargs=\{'trust_remote_code'"):
            vectors(folder, model_kwargs=kwargs)
    assert not (tmp_path / "proof").exists()


def test_neither_is_code_of_a_tokenizer(folder, tmp_path):
    (folder / "evil.py").write_text(CODE.format(proof=str(tmp_path / "proof")))
    maps = {"AutoTokenizer": ["evil.A", "evil.A"]}
    changed(folder / "tokenizer_config.json", auto_map=maps, tokenizer_class="EvilTokenizer")
    with suppress(ModelError):  # transformers may know a class that fits
        vectors(folder)
    assert not (tmp_path / "proof").exists()


def test_consent_is_an_argument(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    proof = tmp_path / "proof"
    (folder / "own.py").write_text(CODE.format(proof=str(proof)))
    changed(folder / "config.json", auto_map={"AutoConfig": "own.A"}, model_type="own")
    with pytest.raises(ModelError):
        vectors(folder, model_kwargs={"trust_remote_code": True})  # its config class fits no model
    assert proof.exists()
    with pytest.raises(TypeError, match="trust_remote_code='yes': give True or False"):
        vectors(folder, model_kwargs={"trust_remote_code": "yes"})


def test_sentence_transformers_consent_is_not_for_the_models_code(folder, tmp_path):
    echo = pytest.importorskip("sentence_transformers_echo")
    proof = tmp_path / "proof"
    (folder / "evil.py").write_text(CODE.format(proof=str(proof)))
    changed(folder / "config.json", auto_map={"AutoConfig": "evil.A"}, model_type="evil")
    with pytest.raises(ModelError, match="needs code that is in its files"):
        echo.EchoModule.load(str(folder), trust_remote_code=True)
    assert not proof.exists()


@pytest.mark.parametrize(
    "fields", [{"attn_implementation": "owner/kernel"}, {"sub": {"_attn_implementation": "o/k"}}], ids=str
)
def test_kernels_that_a_file_names_are_not_fetched(folder, fields):
    changed(folder / "config.json", **fields)
    with pytest.raises(ModelError, match=r"(sub\.)?_?attn_implementation='.*' may be code that is fetched"):
        vectors(folder)


@pytest.mark.parametrize("base", ["owner/model", "/no/such/folder", "gpt2", "https://example.org/model"])
def test_a_base_model_that_only_a_file_names_is_refused(adapter, base):
    changed(adapter / "adapter_config.json", base_model_name_or_path=base)
    with pytest.raises(ModelError, match=f"to the model '{base}', which is no folder of a model here.*adapter="):
        vectors(adapter)


def test_a_base_model_that_the_user_names_is_used(plain, adapter):
    expected = vectors(adapter)
    changed(adapter / "adapter_config.json", base_model_name_or_path="owner/model")
    np.testing.assert_array_equal(vectors(plain, adapter=adapter), expected)


def test_an_adapter_never_meets_another_one_in_silence(folder, adapter):
    with pytest.raises(ConfigError, match="holds an adapter, and adapter=.* is another"):
        vectors(adapter, adapter=adapter)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, folder)
    with pytest.raises(ModelError, match=r"has a model \(config.json\) and an adapter"):
        vectors(folder)
    with pytest.raises(ModelError, match=r"has a model \(config.json\) and an adapter"):
        vectors(folder, adapter=adapter)


# --- missing weights are never invented -------------------------------------------------------------------------------


def without(path, *parts):
    """Remove the tensors of a safetensors file whose names have one of these parts."""
    tensors = load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts)}
    assert len(kept) < len(tensors)
    save_file(kept, path, {"format": "pt"})


@pytest.mark.parametrize("part", ["layers.3.", "layers.0.self_attn.q_proj", "embed_tokens", "norm.weight"])
def test_missing_weights_of_layers_that_run_are_named(folder, part):
    without(folder / "model.safetensors", part)
    with pytest.raises(ModelError, match=rf"have no weights for .*{part}"):
        vectors(folder)


def test_those_of_layers_that_are_dropped_are_not_missed(folder):
    expected = vectors(folder)
    without(folder / "model.safetensors", "layers.5.")
    np.testing.assert_array_equal(vectors(folder), expected)
    with pytest.raises(ModelError, match=r"no weights for layers.5.*and \d+ more"):
        vectors(folder, "echo")


def test_sentence_transformers_misses_them_too(folder):
    echo = pytest.importorskip("sentence_transformers_echo")
    without(folder / "model.safetensors", "layers.3.mlp")
    with pytest.raises(ModelError, match=r"have no weights for layers.3.mlp"):
        echo.EchoModule.load(str(folder))


def test_the_command_line_says_so(folder):
    from typer.testing import CliRunner

    from echo_embeddings.cli.app import app

    without(folder / "model.safetensors", "layers.3.mlp")
    (folder.parent / "texts.txt").write_text("one\ntwo\n")
    target = str(folder.parent / "out.npy")
    done = CliRunner().invoke(app, ["embed", str(folder.parent / "texts.txt"), target, "--model", str(folder)])
    assert done.exit_code == 1
    assert "have no weights for layers.3.mlp" in done.output


def test_a_missing_unembedding_is_not_invented(plain, tmp_path):
    model = AutoModelForCausalLM.from_config(AutoModel.from_pretrained(plain).config)
    model.config.tie_word_embeddings = False
    model.save_pretrained(tmp_path)
    small_tokenizer(TEXTS).save_pretrained(tmp_path)
    without(tmp_path / "model.safetensors", "lm_head")
    with pytest.raises(ModelError, match="have no unembedding matrix"):
        EchoEncoder(tmp_path, LATE).fit_transforms([], ["embed-filter"])


@pytest.mark.parametrize("part", ["layers.1.", "layers.3.self_attn.q_proj.lora_B", "layers.3.self_attn.q_proj.lora_A"])
def test_missing_weights_of_an_adapter_are_named(plain, adapter, part):
    without(adapter / "adapter_model.safetensors", part)
    with pytest.raises(ModelError, match=r"adapter '.*adapter_model.safetensors\) could not be merged: .*q_proj"):
        vectors(plain, adapter=adapter)


def test_so_they_are_where_peft_merges(plain, tmp_path):
    options = peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
    peft.get_peft_model(AutoModel.from_pretrained(plain), options).save_pretrained(tmp_path)
    assert vectors(plain, adapter=tmp_path).shape == (2, 32)
    without(tmp_path / "adapter_model.safetensors", "layers.1.")
    with pytest.raises(ModelError, match=r"could not be merged: it has no weights '.*layers.1.*q_proj"):
        vectors(plain, adapter=tmp_path)


# --- what is read is checked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "", r"config.json is not valid JSON"),
        ("config.json", "[" * 100_000, r"config.json is not valid JSON \(nested too deeply\)"),
        ("config.json", "[]", r"config.json holds a list and no JSON object"),
        ("config.json", "{}", r"could not be loaded: Unrecognized model in"),
        ("tokenizer.json", "", r"tokenizer.json is not valid JSON"),
        ("tokenizer.json", "[" * 100_000, r"tokenizer.json is not valid JSON \(nested too deeply\)"),
        ("tokenizer.json", "{}", r"tokenizer\.json is no tokenizer \("),
        ("tokenizer_config.json", "{", r"tokenizer_config.json is not valid JSON"),
        ("model.safetensors", "", r"model.safetensors is damaged"),
        ("model.safetensors", "x" * 1000, r"model.safetensors is damaged"),
    ],
)
def test_a_damaged_file_of_a_model_is_named(folder, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=message):
        vectors(folder)


def test_weights_of_other_shapes_than_the_config_says_are_said(folder):
    changed(folder / "config.json", intermediate_size=50)
    with pytest.raises(ModelError, match=r"its weights have other shapes than config\.json says"):
        vectors(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_hidden_layers": True},
        {"hidden_size": "yes"},
        {"vocab_size": 0},
        {"num_attention_heads": 4.0},
        {"num_hidden_layers": -1},
    ],
    ids=str,
)
def test_numbers_of_a_model_are_numbers(folder, fields):
    changed(folder / "config.json", **fields)
    (name,) = fields
    with pytest.raises(ModelError, match=f"config.json: {name}=.* is no whole number from 1"):
        vectors(folder)


def test_pickled_weights_never_run_code(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "proof"), "w"))

    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(ModelError, match=r"pytorch_model.bin is pickled; convert the weights to safetensors"):
        vectors(folder)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"r": 0}, "r=0: give a whole number from 1"),
        ({"r": True}, "r=True: give a whole number"),
        ({"r": 2.0}, "r=2.0: give a whole number"),
        ({"r": None}, "it has no field 'r'"),
        ({"lora_alpha": 1e38}, r"lora_alpha=1e\+38: give a number from"),
        ({"lora_alpha": "8"}, "lora_alpha='8': give a number"),
        ({"lora_alpha": True}, "lora_alpha=True: give a number"),
        pytest.param({"lora_alpha": 10**400}, "lora_alpha=1000", id="lora_alpha beyond any float"),
        ({"use_rslora": "yes"}, "use_rslora='yes': give true or false"),
        ({"peft_type": "EVIL"}, "adapter '.*' .*EVIL"),
        ({"peft_type": 3}, "peft_type=3: give a string"),
        ({"peft_type": None}, "it has no field 'peft_type'"),
        ({"target_modules": {"a": 1}}, r"target_modules=\{'a': 1\}: give a string or a list of strings"),
        ({"target_modules": [1]}, r"target_modules=\[1\]"),
        ({"modules_to_save": ["embed_tokens"]}, "could not be merged"),
        ({"modules_to_save": ["nothing"]}, "could not be merged"),
        ({"modules_to_save": 3}, "modules_to_save=3"),
        ({"rank_pattern": {"q_proj": "x"}}, "rank_pattern="),
        ({"base_model_name_or_path": ["a"]}, r"base_model_name_or_path=\['a'\]: give a string"),
        ({"layers_to_transform": "all"}, "layers_to_transform='all'"),
    ],
    ids=str,
)
def test_fields_of_an_adapter_are_checked(plain, adapter, fields, message):
    changed(adapter / "adapter_config.json", **{name: value for name, value in fields.items() if value is not None})
    for name in [name for name, value in fields.items() if value is None]:
        changed(adapter / "adapter_config.json", **{name: None})
    with pytest.raises(ModelError, match=message):
        vectors(plain, adapter=adapter)
    if "base" not in str(fields):
        with pytest.raises(ModelError, match=message):
            vectors(adapter)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b"[]", "holds a list"),
        (b"\xff", "is not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"r": NaN, "peft_type": "LORA"}', "r=nan"),
    ],
)
def test_a_damaged_config_of_an_adapter_is_named(plain, adapter, content, message):
    (adapter / "adapter_config.json").write_bytes(content)
    for use in (lambda: vectors(plain, adapter=adapter), lambda: vectors(adapter)):
        with pytest.raises(ModelError, match=f"adapter_config.json .*{message}"):
            use()


def test_damaged_weights_of_an_adapter_are_named(plain, adapter):
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    for content in (b"", b"x" * 100, weights.read_bytes()[:-10]):
        weights.write_bytes(content)
        with pytest.raises(ModelError, match=r"adapter_model.safetensors cannot be read .*save the adapter again"):
            vectors(plain, adapter=adapter)
    save_file({name: tensor * float("nan") for name, tensor in tensors.items()}, weights)
    with pytest.raises(ModelError, match="has NaN or infinity in it"):
        vectors(plain, adapter=adapter)
    weights.unlink()
    with pytest.raises(ModelError, match="has no file adapter_model.safetensors"):
        vectors(plain, adapter=adapter)
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(ModelError, match=r"adapter_model.bin cannot be read .*convert it to safetensors"):
        vectors(plain, adapter=adapter)
    torch.save(tensors, adapter / "adapter_model.bin")
    assert vectors(plain, adapter=adapter).shape == (2, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_layer": float("nan")}, "start_layer=nan"),
        ({"exit_layer": float("inf")}, "exit_layer=inf"),
        ({"max_length": True}, "max_length=True"),
        ({"pooling": ["mean"]}, r"pooling=\['mean'\] is unknown"),
        ({"pooling": {}}, "pooling="),
        ({"template": {"text": "{text}", "instruction": 3}}, "instruction must be a string"),
        ({"template": {"text": ["{text}"]}}, "a template is a string"),
        ({"template": {"text": "{text}", "eos": "yes"}}, "eos='yes'"),
        ({"final_norm": "yes"}, "final_norm='yes'"),
        ({"packaged_adapter": ["default"]}, "packaged_adapter="),
        ({"transforms": [{"name": "truncate", "options": {"dimension": True}}]}, "dimension=True"),
        ({"transforms": [{"name": ["truncate"]}]}, "is unknown here"),
        ({"format": True}, "no format number"),
        ({"start_layer": 10**400}, "start_layer="),
        ({"start_layer": "0"}, "start_layer='0'"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_fields_of_a_config_are_checked(folder, change, message):
    LATE.save(folder)
    path = folder / "echo_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=rf"(?s)(echo_config.json.*{message}|{message})"):
        vectors(folder, None)


def test_an_error_of_ours_is_a_value_error_and_never_a_traceback_of_a_library(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(EchoError, match=r"could not be loaded: .*no file named model.safetensors"):
        vectors(folder)
