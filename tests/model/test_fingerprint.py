"""Tell weights apart that stand under one path, without reading them whole."""

import json
import shutil
import time

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder, ModelError
from tests.architectures import tiny

ECHO = EchoConfig.preset("echo")


@pytest.fixture
def folder(builtin_folder, tmp_path):
    """A tiny random model in a folder."""
    tiny("llama", vocab_size=49152).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(builtin_folder).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def changed(folder, name):
    """Change the weights of one tensor under the same path."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors[name] + 0.5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("name", ["layers.3.mlp.up_proj.weight", "embed_tokens.weight", "norm.weight"])
def test_other_weights_under_the_same_path_have_another_fingerprint(folder, name):
    before = EchoEncoder(folder).fingerprint(), EchoEncoder(folder).weights_fingerprint()
    assert before == (EchoEncoder(folder).fingerprint(), EchoEncoder(folder).weights_fingerprint())
    changed(folder, name)
    after = EchoEncoder(folder).fingerprint(), EchoEncoder(folder).weights_fingerprint()
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_tokenizer_and_architecture_count(folder, name):
    before = EchoEncoder(folder).weights_fingerprint()
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert EchoEncoder(folder).weights_fingerprint() != before


def test_a_copy_has_the_same_weights(folder):
    copy = shutil.copytree(folder, folder.with_name("copy"))
    assert EchoEncoder(copy).weights_fingerprint() == EchoEncoder(folder).weights_fingerprint()
    assert EchoEncoder(copy, "classical").weights_fingerprint() == EchoEncoder(folder).weights_fingerprint()


def test_an_adapter_counts_by_its_content(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    seen = {EchoEncoder(folder, ECHO).weights_fingerprint()}
    for value in (1.0, 2.0):
        save_file({"lora": torch.full((4, 4), value)}, adapter / "adapter_model.safetensors")
        seen |= {EchoEncoder(folder, ECHO, adapter=adapter).weights_fingerprint()}
        seen |= {EchoEncoder(config=ECHO, adapter=adapter).weights_fingerprint()}
    assert len(seen) == 5


def test_an_adapter_as_the_model_counts_with_its_base(folder, tmp_path):
    adapter = tmp_path / "adapter"
    peft.get_peft_model(tiny("llama", vocab_size=49152), peft.LoraConfig(target_modules=["q_proj"])).save_pretrained(
        adapter
    )
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(folder)}))
    seen = [EchoEncoder(adapter).weights_fingerprint()]
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name in tensors:  # every tensor of it counts
        save_file(tensors | {name: tensors[name] + 0.5}, adapter / "adapter_model.safetensors")
        seen.append(EchoEncoder(adapter).weights_fingerprint())
    changed(folder, "norm.weight")
    seen.append(EchoEncoder(adapter).weights_fingerprint())
    assert len(set(seen)) == len(seen) == len(tensors) + 2
    config.write_text("[")
    assert EchoEncoder(adapter).weights_fingerprint() not in seen


def test_a_loaded_model_that_is_trained_has_another_fingerprint(builtin_folder):
    model = tiny("llama", vocab_size=49152)
    encoder = EchoEncoder(model, ECHO, tokenizer=AutoTokenizer.from_pretrained(builtin_folder))
    before = encoder.fingerprint()
    assert encoder.fingerprint() == before
    model.layers[2].mlp.up_proj.weight.data += 0.5
    assert encoder.fingerprint() != before


def test_weights_replaced_between_fingerprint_and_loading_are_an_error(folder):
    encoder = EchoEncoder(folder, ECHO)
    encoder.fingerprint()
    changed(folder, "norm.weight")
    with pytest.raises(ModelError, match="weights of '.*model' were replaced .* make a new EchoEncoder"):
        encoder.encode_documents("a")


def test_the_fingerprint_belongs_to_the_weights_that_are_loaded(folder):
    encoder = EchoEncoder(folder, ECHO)
    encoder.encode_documents("a")
    expected = EchoEncoder(folder, ECHO).fingerprint()
    changed(folder, "norm.weight")
    assert encoder.fingerprint() == expected


def test_a_fingerprint_takes_no_time(builtin_folder):
    EchoEncoder(builtin_folder, ECHO).weights_fingerprint()  # imports
    start = time.perf_counter()
    EchoEncoder(builtin_folder, ECHO).weights_fingerprint()
    assert time.perf_counter() - start < 0.5  # 0.02 on an idle machine


def test_damaged_files_have_a_fingerprint_too(folder):
    """What is wrong with them is said when they are loaded."""
    seen = {EchoEncoder(folder).weights_fingerprint()}
    for content in (b"", b"{", b"\xff" * 100, (5).to_bytes(8, "little") + b"[1,2]"):
        (folder / "model.safetensors").write_bytes(content)
        seen.add(EchoEncoder(folder).weights_fingerprint())
    assert len(seen) == 5
