"""Tiny encoders with a tokenizer of the words of these tests, for what needs no real weights."""

from functools import cache
from pathlib import Path

import jinja2
import pytest

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.config import presets
from tests.architectures import tiny, word_tokenizer
from tests.conftest import TEXTS


@pytest.fixture(scope="session")
def tokenizer():
    files = [*Path(__file__).parent.glob("*.py"), *presets.PRESETS_FOLDER.glob("*.json")]
    return word_tokenizer([*TEXTS, *(file.read_text(encoding="utf-8") for file in files)])


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
