"""Fused norms and feed-forward blocks give the same states, and are not used where they cannot be."""

import copy

import pytest
import torch
from torch import nn

from echo_embeddings import EchoEncoder
from echo_embeddings.forward.speed import fused_layers
from echo_embeddings.model.architecture import layers_of
from tests.architectures import tiny

KINDS = ("_FusedMLP", "_FusedRMSNorm")


def kinds(layer):
    return {type(part).__name__ for part in fused_layers.layer(layer).children()} & set(KINDS)


@pytest.fixture(scope="module")
def layer(builtin_encoder):
    return layers_of(builtin_encoder.runtime.backbone.model)[7]


@pytest.fixture
def states(layer):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 50, 576, generator=generator).to(layer.mlp.gate_proj.weight)


@pytest.mark.parametrize("name", ["input_layernorm", "post_attention_layernorm", "mlp"])
def test_parts_of_the_builtin_model_give_the_same_within_bfloat16s_own_error(layer, states, name):
    if layer.mlp.gate_proj.weight.dtype != torch.bfloat16:
        pytest.skip("this processor computes in float32")
    own, view = getattr(layer, name), getattr(fused_layers.layer(layer), name)
    assert type(view).__name__ in KINDS
    exact = copy.deepcopy(own).float()
    with torch.inference_mode():
        wanted = exact(states.float())
        before, found = (module(states).float() for module in (own, view))
    assert torch.cosine_similarity(found, wanted, dim=-1).min() > 0.9999
    assert (found - wanted).norm() < 1.3 * (before - wanted).norm()  # no more than the error of bfloat16 itself
    torch.testing.assert_close(found.norm(dim=-1), wanted.norm(dim=-1), rtol=5e-3, atol=0)


def test_the_model_is_not_changed(layer):
    before = dict(layer.named_modules())
    view = fused_layers.layer(layer)
    assert dict(layer.named_modules()) == before
    assert {id(p) for p in view.parameters()} == {id(p) for p in layer.parameters()}


def test_where_a_gradient_is_wanted_the_modules_themselves_run(layer, states):
    view = fused_layers.layer(layer)
    assert torch.equal(view.mlp(states), layer.mlp(states))
    assert torch.equal(view.input_layernorm(states), layer.input_layernorm(states))


def test_a_model_moved_to_float32_runs_itself(layer, states):
    own = copy.deepcopy(layer)
    view = fused_layers.layer(own)
    own.float()
    with torch.inference_mode():
        assert torch.equal(view.mlp(states.float()), own.mlp(states.float()))
        assert torch.equal(view.input_layernorm(states.float()), own.input_layernorm(states.float()))


def test_hooks_and_adapters_that_came_later_are_heard(layer, states):
    own = copy.deepcopy(layer)
    view = fused_layers.layer(own)
    heard = []
    with torch.inference_mode():
        handle = own.mlp.up_proj.register_forward_hook(lambda *_: heard.append(1))
        view.mlp(states)
        handle.remove()
        view.mlp(states)
        assert heard == [1]
        own.mlp.gate_proj = nn.Sequential(own.mlp.gate_proj, nn.Tanh())
        assert torch.equal(view.mlp(states), own.mlp(states))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama", set(KINDS)),
        ("mistral-window", set(KINDS)),
        ("qwen3", set(KINDS)),
        ("smollm3", set(KINDS)),
        ("olmo2", set(KINDS)),
        ("phi3", {"_FusedRMSNorm"}),  # gate and up are one matrix
        ("gemma3", set()),  # norms multiply by 1 + weight, and the activation is another
        ("gpt2", set()),
    ],
)
def test_only_what_gives_the_same_is_replaced(name, expected):
    model = tiny(name).bfloat16()
    for part in model.modules():  # with weights of 1, a norm that uses 1 + weight could hide
        if type(part).__name__.endswith("RMSNorm"):
            part.weight.data.uniform_(0.5, 1.5)
    if "_FusedMLP" in expected and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN does not multiply in bfloat16 on this processor")
    assert kinds(layers_of(model)[2]) == expected


def test_a_block_that_scales_its_result_is_left_alone():
    block = layers_of(tiny("llama").bfloat16())[0].mlp

    class Scaled(type(block)):
        def forward(self, hidden):
            return 0.9 * super().forward(hidden)

    block.__class__ = Scaled
    assert fused_layers._fused_part(block) is None


def test_not_in_float32(float32_encoder):
    assert not fused_layers.pays_on(float32_encoder.runtime.backbone.model)


def test_vectors_are_those_of_the_models_own_pass(builtin_encoder, monkeypatch, texts):
    found = builtin_encoder.encode_documents(texts)
    monkeypatch.setattr(fused_layers, "pays_on", lambda _: False)
    plain = EchoEncoder()
    assert (found * plain.encode_documents(texts)).sum(axis=1).min() > 0.999
