"""Merge plain LoRA without peft, and compare the result with peft's."""

import json
import time

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import EchoEncoder, ModelError
from echo_embeddings.model import adapters
from tests.architectures import tiny

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tuned(model, **options):
    """A peft model around ``model``, with random factors."""
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "target_modules": ALL} | options))
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.2)
    return wrapped


def saved(wrapped, folder):
    """Save a peft model, and load its config and tensors."""
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    return json.loads((folder / "adapter_config.json").read_text()), load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    "options", [{"lora_alpha": 12}, {"use_rslora": True, "r": 8}, {"target_modules": r".*[12]\..*q_proj"}], ids=str
)
def test_the_weights_are_those_that_peft_merges(options, tmp_path):
    wrapped = tuned(tiny("llama"), **options)
    config, tensors = saved(wrapped, tmp_path)
    assert adapters.is_plain(config, tensors)
    mine = tiny("llama")
    adapters.merge(mine, config, tensors)
    theirs = wrapped.merge_and_unload().state_dict()
    for name, weight in mine.state_dict().items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-6, rtol=1e-6)
    changed = [name for name, weight in mine.state_dict().items() if not weight.equal(tiny("llama").state_dict()[name])]
    assert len(changed) == len(tensors) // 2 > 0


def test_an_adapter_trained_with_the_head_fits_the_body(tmp_path):
    base = AutoModelForCausalLM.from_config(tiny("llama").config)
    body = AutoModel.from_config(base.config)
    body.load_state_dict(base.model.state_dict())
    wrapped = tuned(base)
    config, tensors = saved(wrapped, tmp_path)
    assert all(key.startswith("base_model.model.model.") for key in tensors)
    adapters.merge(body, config, tensors)
    merged = wrapped.merge_and_unload().model.state_dict()
    assert all(torch.allclose(weight, merged[name], atol=1e-6) for name, weight in body.state_dict().items())


def test_in_bf16_the_sum_is_rounded_once(tmp_path):
    config, tensors = saved(tuned(tiny("llama")), tmp_path)
    exact, rounded = tiny("llama").to(torch.bfloat16).float(), tiny("llama").to(torch.bfloat16)
    adapters.merge(exact, config, tensors)
    adapters.merge(rounded, config, tensors)
    for name, weight in rounded.state_dict().items():
        assert weight.equal(exact.state_dict()[name].to(torch.bfloat16)), name


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"bias": "lora_only"},
        {"modules_to_save": ["norm"]},
        {"rank_pattern": {"q_proj": 2}},
        {"target_modules": [*ALL, "embed_tokens"]},
    ],
    ids=str,
)
def test_more_than_plain_lora_is_left_to_peft(options, tmp_path, builtin_folder, texts):
    base = tmp_path / "base"
    tiny("llama", vocab_size=49152).save_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    tokenizer.save_pretrained(base)
    wrapped = tuned(AutoModel.from_pretrained(base), **options)
    config, tensors = saved(wrapped, tmp_path / "adapter")
    assert not adapters.is_plain(config, tensors)
    expected = EchoEncoder(wrapped.merge_and_unload(), tokenizer=tokenizer).encode_documents(texts)
    found = EchoEncoder(base, adapter=tmp_path / "adapter", dtype="float32").encode_documents(texts)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_asks_for_more_than_the_known_fields_is_not_plain():
    keys = ["base_model.model.layers.0.q_proj.lora_A.weight"]
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "some_future_field": None}
    assert adapters.is_plain(plain, keys)
    assert not adapters.is_plain(plain | {"some_future_field": 3}, keys)
    assert not adapters.is_plain(plain | {"init_lora_weights": "pissa"}, keys)
    assert not adapters.is_plain(plain | {"peft_type": "IA3"}, keys)
    assert not adapters.is_plain(plain, ["base_model.model.lm_head.lora_A.weight"])
    assert not adapters.is_plain({}, keys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 3}, r"weights for 'layers\.\d.*', which is no linear layer of this LlamaModel with 3"),
        ({"intermediate_size": 40}, r"'layers.0.mlp.down_proj' have shapes .*\(4, 48\).* need .*\(4, 40\).*another mo"),
    ],
)
def test_an_adapter_of_another_model_is_refused_and_changes_nothing(change, message, tmp_path):
    config, tensors = saved(tuned(tiny("llama")), tmp_path)
    model = tiny("llama", **change)
    with pytest.raises(ModelError, match=message):
        adapters.merge(model, config, tensors)
    assert all(weight.equal(tiny("llama", **change).state_dict()[name]) for name, weight in model.state_dict().items())


def test_broken_tensors_are_named(tmp_path):
    config, tensors = saved(tuned(tiny("llama")), tmp_path)
    alone = {key: tensor for key, tensor in tensors.items() if "lora_B" not in key}
    with pytest.raises(ModelError, match=r"have shapes \{'A': \(4, 48\)\}, but this LlamaModel and r=4 need"):
        adapters.merge(tiny("llama"), config, alone)
    with pytest.raises(ModelError, match="the adapter's tensor 'x' is no LoRA weight; merge this adapter with peft"):
        adapters.merge(tiny("llama"), config, tensors | {"x": torch.zeros(1)})


def test_offloaded_weights_are_refused(tmp_path):
    config, tensors = saved(tuned(tiny("llama")), tmp_path)
    with pytest.raises(ModelError, match="is offloaded and cannot be adapted; choose a device_map"):
        adapters.merge(tiny("llama").to("meta"), config, tensors)


def test_merging_takes_at_most_twice_the_time_of_peft(builtin_folder, tmp_path):
    """Merge into all linear layers of the built-in model, which happens each time it is loaded."""
    wrapped = tuned(AutoModel.from_pretrained(builtin_folder, dtype=torch.bfloat16), r=16)
    config, tensors = saved(wrapped, tmp_path)
    model = AutoModel.from_pretrained(builtin_folder, dtype=torch.bfloat16)
    mine, theirs = [], []
    for _ in range(3):  # take the fastest of three, because the machine may be busy
        started = time.thread_time()
        adapters.merge(model, config, tensors)
        mine.append(time.thread_time() - started)
        started = time.thread_time()
        wrapped.merge_adapter()
        theirs.append(time.thread_time() - started)
        wrapped.unmerge_adapter()
    assert min(mine) < 2 * min(theirs)
