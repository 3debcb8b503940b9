"""Tiny encoders with the built-in model's tokenizer, for what needs no real weights."""

from functools import cache

import jinja2
import pytest
from transformers import AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder
from tests.architectures import tiny


@pytest.fixture(scope="session")
def tokenizer(builtin_folder):
    return AutoTokenizer.from_pretrained(builtin_folder)


@pytest.fixture(scope="session")
def tiny_encoder(tokenizer):
    """``tiny_encoder(config, **changes to the model)``: fresh weights each time, but always the same ones."""

    def make(config="late-echo", **changes):
        config = EchoConfig.preset(config) if isinstance(config, str) else config
        return EchoEncoder(tiny("llama", vocab_size=len(tokenizer), **changes), config, tokenizer=tokenizer)

    return make


@pytest.fixture(scope="session", autouse=True)
def templates_of_cards_are_compiled_once():
    """sentence-transformers compiles its model card anew whenever it saves: a fifth of the time of a short training."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jinja2.Environment, "compile", cache(jinja2.Environment.compile))
        yield
