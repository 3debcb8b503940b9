"""Compare block-wise causal attention with torch's own, and check when a model uses it."""

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.forward.speed import block_attention
from tests.architectures import tiny

TEXT = "the ferry leaves at dawn, and the train does not wait"


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
    found = block_attention.causal_attention(query, key, value, 0.3)
    torch.testing.assert_close(found, expected.transpose(1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [1, 130, 299])
def test_tokens_before_the_first_that_is_wanted_find_nothing(first):
    query, key, value = states(6, 2, 300, torch.float32)
    expected = block_attention.causal_attention(query, key, value, 0.3)
    found = block_attention.causal_attention(query, key, value, 0.3, first)
    torch.testing.assert_close(found[:, first:], expected[:, first:], rtol=1e-4, atol=1e-5)
    assert not found[:, :first].any()


@pytest.mark.parametrize("prefix", [0, 5])
def test_torchs_kernel_attends_alike(prefix):
    """torch's kernel is used on processors with tiles only, but gives the same result everywhere."""
    query, key, value = states(6, 2, 40, torch.float32)
    query = query[:, :, prefix:]
    expected = block_attention.causal_attention(query, key, value, 0.3)
    torch.testing.assert_close(block_attention._fused(query, key, value, 0.3), expected, rtol=1e-4, atol=1e-5)


def test_a_model_gives_the_same_vectors_either_way(builtin_encoder, late_encoder, monkeypatch):
    for encoder in (builtin_encoder, late_encoder):
        found = []
        for tiles in (False, True):
            monkeypatch.setattr(block_attention, "has_tiles", lambda tiles=tiles: tiles)
            found.append(encoder.encode_documents([TEXT, "bread", TEXT * 20]))
        assert ((found[0] * found[1]).sum(axis=1) > 0.998).all()


@pytest.mark.parametrize("config", ["echo", "late-echo", "classical", "echo-finetuned"])
def test_in_the_last_layer_only_pooled_tokens_attend(config, builtin_folder, monkeypatch):
    """No vector depends on the other tokens of the last layer. In the layers below, vectors depend on all tokens."""
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    model = tiny("llama", vocab_size=49152)
    exact = EchoEncoder(model, config, tokenizer=tokenizer).encode_documents([TEXT])[0]
    model.to(torch.bfloat16)
    block_attention.use_on(model)
    encoder = EchoEncoder(model, config, tokenizer=tokenizer)
    monkeypatch.setattr(block_attention, "has_tiles", lambda: False)
    attended = []
    block = block_attention._block
    monkeypatch.setattr(block_attention, "_block", lambda *a: attended.append(a[3]) or block(*a))
    vector = encoder.encode_documents([TEXT])[0]
    pooled = 1 if encoder.config.pooling == "last" else len(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    *_, before, last = attended
    assert last == pooled
    assert before > pooled or config == "classical"
    assert vector @ exact > 0.999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("size", [0.01, 1, 40])
def test_scores_of_any_size_give_weights(dtype, size):
    """At the largest size, powers of the scores exceed the range of every dtype, so an ordinary softmax is needed."""
    query, key, value = states(6, 2, 300, torch.float32)
    query = query * size
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0, enable_gqa=True)
    found = block_attention.causal_attention(query.to(dtype), key.to(dtype), value.to(dtype), 1.0).float()
    assert found.isfinite().all()
    cosine = torch.cosine_similarity(found.flatten(), expected.transpose(1, 2).flatten(), dim=0)
    assert cosine > (0.999999 if dtype == torch.float32 else 0.999 if size < 40 else 0.98)


def test_a_row_whose_scores_are_all_far_below_zero_is_not_lost():
    query, key, value = states(2, 2, 20, torch.float32)
    query[:], key[:] = 10, -10  # each score is -1600: every power is 0
    found = block_attention.causal_attention(query, key, value, 1.0)
    mean = value.cumsum(dim=2) / torch.arange(1, 21).view(20, 1)
    torch.testing.assert_close(found, mean.transpose(1, 2))


def test_in_float32_a_loaded_model_attends_in_blocks_behind_a_prefix_only(float32_encoder, monkeypatch):
    assert float32_encoder.runtime.backbone.takes_prefix
    attended = []
    block = block_attention._block
    monkeypatch.setattr(block_attention, "_block", lambda *a: attended.append(a[3]) or block(*a))
    torchs = EchoEncoder(dtype="float32", model_kwargs={"attn_implementation": "sdpa"})
    assert not torchs.runtime.backbone.takes_prefix
    np.testing.assert_array_equal(float32_encoder.encode_documents(TEXT), torchs.encode_documents(TEXT))
    assert not attended
    echo = EchoConfig.preset("zero-shot")
    found, expected = (encoder.with_config(echo).encode_documents(TEXT) for encoder in (float32_encoder, torchs))
    assert attended
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_choice_of_the_user_is_kept(builtin_folder):
    encoder = EchoEncoder(dtype="bfloat16", model_kwargs={"attn_implementation": "eager"})
    assert encoder.runtime.backbone.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen3", "gpt2", "gpt-neox"])
def test_a_model_gives_the_states_that_torchs_attention_gives(name):
    """With a sliding window shorter than the text there is a mask, so torch's own attention runs."""
    model = tiny(name).double()  # exact enough to compare, and not float32
    ids = torch.arange(1, 61).view(2, 30)
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).last_hidden_state
        block_attention.use_on(model)
        found = model(input_ids=ids, use_cache=False).last_hidden_state
    assert model.config._attn_implementation == block_attention.NAME
    torch.testing.assert_close(found, expected)


def test_gradients_flow_through_the_blocks():
    query, key, value = (part.requires_grad_() for part in states(4, 2, 140, torch.float64))
    block_attention.causal_attention(query, key, value, 0.25).square().sum().backward()
    found = [part.grad.clone() for part in (query, key, value)]
    for part in (query, key, value):
        part.grad = None
    scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.25, enable_gqa=True
    ).square().sum().backward()
    for grad, part in zip(found, (query, key, value), strict=True):
        torch.testing.assert_close(grad, part.grad)
