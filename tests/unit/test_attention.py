"""Block-wise causal attention against torch's own, and when a model uses it."""

import pytest
import torch
from tests.architectures import tiny
from torch.nn.functional import scaled_dot_product_attention

from echo_embeddings import EchoEncoder, attention


def states(heads, kv_heads, tokens, dtype):
    torch.manual_seed(tokens)
    query = torch.randn(2, tokens, heads, 16, dtype=dtype).transpose(1, 2)
    key, value = (torch.randn(2, tokens, kv_heads, 16, dtype=dtype).transpose(1, 2) for _ in range(2))
    return query, key, value


@pytest.mark.parametrize("tokens", [1, 7, 128, 129, 255, 257, 700])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2)])
def test_blocks_of_queries_attend_as_torch_does(heads, kv_heads, tokens):
    query, key, value = states(heads, kv_heads, tokens, torch.float32)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True)
    found = attention.causal_attention(query, key, value, 0.3)
    torch.testing.assert_close(found, expected.transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_a_loaded_model_attends_in_blocks_in_half_precision_only(builtin_encoder, float32_encoder):
    implementation = "sdpa" if builtin_encoder.runtime.backbone.model.dtype == torch.float32 else attention.NAME
    assert builtin_encoder.runtime.backbone.model.config._attn_implementation == implementation
    assert float32_encoder.runtime.backbone.model.config._attn_implementation == "sdpa"


def test_a_choice_of_the_user_is_kept(builtin_folder):
    encoder = EchoEncoder(dtype="bfloat16", model_kwargs={"attn_implementation": "eager"})
    assert encoder.runtime.backbone.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen3", "gpt2", "gpt-neox"])
def test_a_model_gives_the_states_that_torchs_attention_gives(name):
    """A window narrower than the text comes with a mask, and goes to torch's own attention."""
    model = tiny(name).double()  # exact enough to compare, and not float32
    ids = torch.arange(1, 61).view(2, 30)
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).last_hidden_state
        attention.use_on(model)
        found = model(input_ids=ids, use_cache=False).last_hidden_state
    assert model.config._attn_implementation == attention.NAME
    torch.testing.assert_close(found, expected)


def test_gradients_flow_through_the_blocks():
    query, key, value = (part.requires_grad_() for part in states(4, 2, 140, torch.float64))
    attention.causal_attention(query, key, value, 0.25).square().sum().backward()
    found = [part.grad.clone() for part in (query, key, value)]
    for part in (query, key, value):
        part.grad = None
    scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.25, enable_gqa=True
    ).square().sum().backward()
    for grad, part in zip(found, (query, key, value), strict=True):
        torch.testing.assert_close(grad, part.grad)
