"""Switch off each faster way alone, and switch it on alone. Vectors must equal those without any of them."""

import numpy as np
import pytest
import torch

from echo_embeddings import ConfigError, EchoEncoder
from echo_embeddings.forward.speed import packed_attention
from echo_embeddings.options import SPEED
from tests.architectures import tiny
from tests.conftest import cosines

SOME = ["The ferry leaves the island at dawn.", "bread", "Zażółć gęślą jaźń 日本", "one two three " * 4]


@pytest.fixture(scope="module")
def reference(builtin_folder):
    return EchoEncoder(config="late-echo", dtype="float32", speed=False).encode_documents(SOME)


@pytest.fixture(scope="module")
def packing(builtin_folder):
    """Model arguments of an encoder that packs sequences, also on a processor."""
    packed_attention.register(tiny("llama"))  # so that transformers knows the name
    return {"attn_implementation": packed_attention.NAME}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("alone", [True, False], ids=["on alone", "off alone"])
@pytest.mark.parametrize("name", SPEED)
def test_a_faster_way_changes_no_vector(name, alone, dtype, reference, packing):
    # A way that needs another one cannot be on alone (a prefix needs block attention); describe() says so.
    speed = {other: (other == name) == alone for other in SPEED}
    model_kwargs = packing if name == "packed_attention" else {}
    encoder = EchoEncoder(config="late-echo", dtype=dtype, speed=speed, model_kwargs=model_kwargs)
    assert cosines(encoder.encode_documents(SOME), reference).min() > (0.99999 if dtype == torch.float32 else 0.998)
    off = [other for other in SPEED if not speed[other]]
    assert all(not encoder.runtime.speed[other] and encoder.runtime.speed[other].why == "switched off" for other in off)


def test_all_are_off_at_once_and_the_vectors_are_the_models_own_pass(reference, builtin_folder):
    plain = EchoEncoder(config="late-echo", dtype="float32", speed=False, model_kwargs={"attn_implementation": "sdpa"})
    np.testing.assert_array_equal(plain.encode_documents(SOME), reference)


def test_what_is_on_is_said_with_the_reason(builtin_encoder):
    told = builtin_encoder.describe()
    for name in (*SPEED, "compiled"):
        assert f"speed: {name}" in told
    assert "needs compiled=True" in told
    assert "for CUDA GPUs only" in told


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="speed names 'turbo', which is unknown; choose from block_attention, fused"):
        EchoEncoder(speed={"turbo": False})
