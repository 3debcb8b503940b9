"""``dtype="int8"`` keeps the weights of the decoder layers in 8 bits. Some things are refused with it."""

import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoTokenizer

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, ModelError
from echo_embeddings.model.architecture import layers_of
from echo_embeddings.model.device import computed_in, pick_dtype
from echo_embeddings.model.int8 import Int8Linear, quantise
from tests.architectures import CONFIGS, tiny, word_tokenizer
from tests.conftest import TEXTS, cosines


def bytes_of(module):
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])


def linears(model, kind):
    return [module for layer in layers_of(model) for module in layer.modules() if isinstance(module, kind)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("model"), word_tokenizer(TEXTS)
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# --- what it gives ----------------------------------------------------------------------------------------------------


def test_the_built_in_model_keeps_its_vectors(float32_encoder, texts):
    plain, encoder = float32_encoder, EchoEncoder(dtype="int8")
    texts = [text for text in texts if text.strip()] + ["quarterly report", "how do tides follow the moon?"]
    found = cosines(encoder.encode_documents(texts), plain.encode_documents(texts))
    assert 0.99 <= found.min() < 0.99999
    model = encoder.runtime.backbone.model
    assert not linears(model, nn.Linear)
    bits16 = sum(2 * p.numel() for layer in layers_of(plain.runtime.backbone.model) for p in layer.parameters())
    assert sum(map(bytes_of, layers_of(model))) < 0.51 * bits16
    assert model.get_input_embeddings().weight.dtype == pick_dtype("auto", model.device.type)


def test_a_layer_is_rounded_to_half_a_level_of_each_row():
    layer = nn.Linear(40, 7).requires_grad_(requires_grad=False)
    layer.weight[2] *= 1e-4
    layer.weight[5] = 0
    rounded = Int8Linear(layer)
    identity = torch.eye(40)
    weight = (rounded(identity) - layer.bias).T
    steps = layer.weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((weight - layer.weight).abs() <= 0.501 * steps + 1e-7).all()
    assert rounded(torch.ones(2, 3, 40)).shape == (2, 3, 7)
    assert str(rounded) == "Int8Linear(in_features=40, out_features=7, bias=True)"


def test_sums_do_not_overflow_in_float16():
    layer = nn.Linear(4096, 2, bias=False).requires_grad_(requires_grad=False)
    layer.weight.fill_(0.01)
    out = Int8Linear(layer)(torch.full((1, 4096), 10.0, dtype=torch.float16))
    assert out.dtype == torch.float16
    np.testing.assert_allclose(out.float(), 409.6, rtol=1e-2)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "gpt2"])
def test_other_architectures(name):
    model, plain = tiny(name), tiny(name)
    quantise(model)
    assert len(linears(model, Int8Linear)) == len(linears(plain, nn.Linear)) > 0
    ids = torch.arange(3, 23).unsqueeze(0)
    with torch.inference_mode():
        states, expected = model(input_ids=ids).last_hidden_state, plain(input_ids=ids).last_hidden_state
    # With random weights a small error grows much for a token or two. A trained model is less sensitive.
    assert torch.cosine_similarity(states, expected, dim=-1).median() > 0.99


def test_adapters_are_merged_before(adapter_of_default, texts):
    encoder = EchoEncoder(adapter=adapter_of_default, dtype="int8", device="cpu")
    plain = EchoEncoder(adapter=adapter_of_default, dtype="float32", device="cpu")
    assert cosines(encoder.encode_documents(texts[0]), plain.encode_documents(texts[0])) >= 0.99
    # A weight that the adapter changed is rounded after the merge, not before it.
    merged = layers_of(plain.runtime.backbone.model)[0].self_attn.q_proj.weight
    rounded = layers_of(encoder.runtime.backbone.model)[0].self_attn.q_proj
    scale = rounded.scale[:, None]
    error = (rounded.levels * scale - merged).abs()
    assert (error <= 0.51 * scale + 2**-8 * merged.abs()).all()


def test_a_saved_encoder_loads_in_int8_and_computes_in_its_own_dtype(folder, texts, tmp_path):
    EchoEncoder(folder, "late-echo", dtype="float32", device="cpu").save_pretrained(tmp_path)
    encoder = EchoEncoder(tmp_path, dtype="int8", device="cpu")
    assert encoder.runtime.backbone.model.dtype == torch.float32
    assert cosines(encoder.encode_documents(texts), EchoEncoder(tmp_path).encode_documents(texts)).min() > 0.99
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.encode_documents(texts), encoder.encode_documents(texts))
    other = encoder.with_config(encoder.config.replace(max_length=16))
    assert other.runtime.backbone is encoder.runtime.backbone


def test_the_fingerprint_is_its_own(folder):
    config = EchoConfig.preset("late-echo")
    kinds = {EchoEncoder(folder, config, dtype=dtype).fingerprint() for dtype in ("int8", "auto", "bfloat16")}
    assert len(kinds) == 3
    assert computed_in("cpu", "int8") != computed_in("cpu", "auto")  # so checkpoints of the two are never mixed


# Run in its own process, because torch's compiler gives warnings, which are errors in these tests.
COMPILED = """
import sys
from tests.conftest import TEXTS, cosines
from echo_embeddings import EchoEncoder
from echo_embeddings.model.architecture import layers_of
encoder = EchoEncoder(sys.argv[1], "late-echo", dtype="int8", device="cpu", compiled=True)
plain = EchoEncoder(sys.argv[1], "late-echo", dtype="int8", device="cpu")
assert cosines(encoder.encode_documents(TEXTS), plain.encode_documents(TEXTS)).min() > 0.999
assert all(layer._compiled_call_impl is not None for layer in layers_of(encoder.runtime.backbone.model))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
def test_compiled(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    subprocess.run([sys.executable, "-c", COMPILED, str(folder)], check=True)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_loaded_model_is_not_changed(builtin_folder):
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    with pytest.raises(TypeError, match="dtype='int8' goes with a model's name; .* save it and use EchoEncoder"):
        EchoEncoder(tiny("llama"), tokenizer=tokenizer, dtype="int8")


def test_saving_is_refused_and_writes_nothing(folder, tmp_path):
    encoder = EchoEncoder(folder, "late-echo", dtype="int8")
    with pytest.raises(ConfigError, match="int8 cannot be saved: .* dtype='auto', .* EchoEncoder\\(folder, dtype='i"):
        encoder.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="int8 cannot be saved"):  # saving by transformers is refused too
        encoder.runtime.backbone.model.save_pretrained(tmp_path / "new")
    assert not list((tmp_path / "new").glob("*.safetensors"))


def test_an_architecture_without_linear_modules(builtin_folder, tmp_path):
    tiny("gpt2", vocab_size=49152).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(builtin_folder).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="the decoder layers of GPT2Model have no nn.Linear; use 'auto'"):
        EchoEncoder(tmp_path, dtype="int8").encode_documents("a")


def test_a_model_that_is_quantised_already(folder):
    encoder = EchoEncoder(folder, dtype="int8", model_kwargs={"quantization_config": {"quant_method": "torchao"}})
    with pytest.raises(ModelError, match="has a quantization_config already; leave one of them out"):
        encoder.encode_documents("a")


def test_an_offloaded_layer_is_refused_before_any_is_changed():
    model = tiny("llama")
    layers_of(model)[3].mlp.up_proj.to("meta")
    with pytest.raises(ModelError, match="mlp.up_proj is offloaded; choose a device_map"):
        quantise(model)
    assert not linears(model, Int8Linear)
