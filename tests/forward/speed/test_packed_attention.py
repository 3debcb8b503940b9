"""Packed sequences get the states that each gets alone, in every architecture, or they are not packed at all."""

import numpy as np
import pytest
import torch
from transformers import LlamaModel

from echo_embeddings import EchoEncoder
from echo_embeddings.config.config import Layers
from echo_embeddings.engine import batching
from echo_embeddings.forward import pooling as pooling_module
from echo_embeddings.forward.batch import Batch
from echo_embeddings.forward.pooling import POOLINGS, pool_packed, rows_of
from echo_embeddings.forward.speed import packed_attention
from echo_embeddings.model.architecture import is_windowed
from echo_embeddings.text.layout import Layout
from tests.architectures import CONFIGS, backbone, tiny

LAYOUTS = {
    "prefixed": Layout(((5, 6), (7, 8, 9), ())),
    "tailed": Layout(((5, 6), (7, 8), (9, 3)), pool_tail=True),
    "three copies": Layout(((), (4,), (4,), ())),
}
WHOLE, LATE = Layers(0, 6, 6, final_norm=True), Layers(3, 5, 6, final_norm=False)
CONTENTS = [np.array([11, 12, 13, 14]), np.array([21]), np.array([31, 32, 33, 34, 35, 36, 37])]


def ready(name):
    model = tiny(name)
    packed_attention.register(model)
    return model


WINDOWED = [name for name in CONFIGS if is_windowed(tiny(name))]


def test_a_packed_batch_on_paper():
    batch = Batch.packed([np.array([11, 12]), np.array([21])], Layout(((5,), (7,), ())), "cpu")
    assert batch.ids.tolist() == [[5, 11, 12, 7, 11, 12, 5, 21, 7, 21]]
    assert batch.pooled.int().tolist() == [[0, 0, 0, 0, 1, 1, 0, 0, 0, 1]]
    assert batch.first_pass.tolist() == [[0, 1, 2, 3, 6, 7, 8]]
    assert batch.expansion.tolist() == [[0, 1, 2, 3, 1, 2, 4, 5, 6, 5]]
    assert batch.lengths == (6, 4)


def test_what_transformers_is_told_on_paper():
    told = packed_attention.arguments((6, 4), torch.device("cpu"))
    assert told["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3]]
    assert told["cu_seq_lens_q"].tolist() == told["cu_seq_lens_k"].tolist() == [0, 6, 10]
    assert told["max_length_q"] == told["max_length_k"] == 6


def test_rows_are_unpacked():
    hidden = torch.arange(6.0).view(1, 6, 1)
    states, mask = rows_of(hidden, torch.tensor([0, 1, 2, 5]), (3, 1))
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert states[mask].flatten().tolist() == [0, 1, 2, 5]


def test_a_long_text_does_not_pad_short_ones():
    counts, shapes = (9, 1, 1, 2, 5), []

    def pooling(states, mask):
        shapes.append(tuple(mask.shape))
        return POOLINGS["mean"](states, mask)

    hidden = torch.arange(20.0).view(1, 20, 1)
    found = pool_packed(pooling, hidden, torch.arange(1, 19), counts)
    assert found.flatten().tolist() == [5, 10, 11, 12.5, 16]
    assert shapes == [(2, 9), (3, 5)]  # portions of at most 20 tokens
    assert pooling_module._portions([30, 1, 30], 20) == [0, 1, 2, 3]


@pytest.mark.parametrize("layers", [WHOLE, LATE, Layers(0, 4, 6, final_norm=False)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(WINDOWED)))
@torch.inference_mode()
def test_packed_states_are_those_of_each_text_alone(name, layout, layers):
    packing = backbone(ready(name), layers)
    assert packing.packs
    batch = Batch.packed(CONTENTS, layout, "cpu")
    states, mask = rows_of(packing(batch), batch.pooled_places(), batch.counts)
    for i, content in enumerate(CONTENTS):
        alone = Batch.of([content], layout, "cpu")
        torch.testing.assert_close(states[i][mask[i]], packing(alone)[alone.pooled], atol=1e-5, rtol=1e-5)


def test_torch_attention_is_not_packed():
    assert not backbone(tiny("llama"), LATE).packs


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_is_not_packed(name):
    assert not backbone(ready(name), LATE).packs


class _Deaf(LlamaModel):
    """An architecture that does not hand on the arguments that tell its attention where sequences end."""

    def forward(self, input_ids, use_cache, position_ids=None, **_):
        return super().forward(input_ids=input_ids, position_ids=position_ids, use_cache=use_cache)


def test_texts_that_would_see_each_other_are_not_packed():
    torch.manual_seed(0)
    model = _Deaf(tiny("llama").config).eval()
    packed_attention.register(model)
    assert not backbone(model, WHOLE).packs


class _Strict(LlamaModel):
    def forward(self, input_ids, use_cache):
        return super().forward(input_ids=input_ids, use_cache=use_cache)


def test_a_model_that_takes_no_such_arguments_is_not_packed(caplog):
    model = _Strict(tiny("llama").config).eval()
    packed_attention.register(model)
    with caplog.at_level("INFO", "echo_embeddings"):
        assert not backbone(model, WHOLE).packs
    assert "sequences are padded, not packed" in caplog.text


@torch.inference_mode()
def test_whoever_uses_the_model_otherwise_sees_torch_attention():
    model, same = tiny("llama"), ready("llama")
    same.load_state_dict(model.state_dict())
    ids, mask = torch.tensor([[1, 2, 3, 4], [0, 0, 5, 6]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(same(input_ids=ids, attention_mask=mask).last_hidden_state, expected)


def test_fill_leaves_no_text_out_and_no_batch_too_long():
    assert batching.fill([3, 9, 2, 4, 20], budget=10) == [[4], [1], [3, 0, 2]]
    assert batching.fill([], budget=10) == []


@pytest.fixture(scope="module", params=["default", "echo", "classical"])
def encoders(builtin_folder, request):
    """A preset's encoder with torch's attention, and one that packs."""
    packed_attention.register(tiny("llama"))  # so that transformers knows the name
    both = [
        EchoEncoder(config=request.param, dtype="float32", device="cpu", model_kwargs={"attn_implementation": name})
        for name in ("sdpa", packed_attention.NAME)
    ]
    assert [encoder.runtime.backbone.packs for encoder in both] == [False, True]  # loads them, so they can be shared
    return both


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_an_encoder_gives_the_same_vectors_packed(encoders, texts, pooling):
    plain, packed = (encoder.with_config(encoder.config.replace(pooling=pooling)) for encoder in encoders)
    assert packed.runtime.backbone.packs
    np.testing.assert_allclose(packed.encode_documents(texts), plain.encode_documents(texts), atol=1e-5)


def since_2_13(query, key, value, ends, _, longest, __, *, scale=None, window_size=(-1, -1), enable_gqa=False):
    assert window_size == (-1, 0)
    assert enable_gqa
    return packed_attention._one_by_one(query, key, value, ends, longest, scale)


def since_2_11(query, key, value, ends, _, longest, __, *, scale=None, window_size=(-1, -1)):
    assert window_size == (-1, 0)
    assert key.shape == query.shape
    return packed_attention._one_by_one(query, key, value, ends, longest, scale)


def since_2_10(query, key, value, ends, _, longest, __, is_causal=False):
    assert is_causal
    assert key.shape == query.shape
    return packed_attention._one_by_one(query, key, value, ends, longest, None)


@pytest.mark.parametrize("kernel", [since_2_13, since_2_11, since_2_10])
def test_each_torch_is_asked_in_its_own_words(monkeypatch, kernel):
    # torch's kernel itself runs on a GPU only (tests/gpu); these have its signatures and compute the same.
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    query, key, value = (torch.randn(10, heads, 8) for heads in (6, 2, 2))
    ends = torch.tensor([0, 4, 10], dtype=torch.int32)
    found = packed_attention._kernel(query, key, value, ends, 6, 0.3)
    torch.testing.assert_close(found, packed_attention._one_by_one(query, key, value, ends, 6, 0.3))
