"""Fixtures: the real built-in model once a session, and tiny real models of many architectures."""

import copy
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Test processes beside each other share the cores, and so do the processes that they start.
if beside := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(beside))))

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


SHIPPED = presets.PRESETS_FOLDER


class SharedWeights:
    """Loads the built-in model once for each dtype and packaged adapter, and gives every encoder a body of its own.

    To load it takes two seconds, and some hundred tests make an encoder. The bodies share only the memory of their
    weights, which nothing may write to.
    """

    def __init__(self):
        self._loaded, self._sums, self._lock = {}, {}, threading.Lock()

    def load(self, spec):
        from echo_embeddings.model import loading
        from echo_embeddings.model.device import pick_device

        of_a_test = spec.packaged and presets.PRESETS_FOLDER != SHIPPED
        if spec.model is not None or spec.adapter is not None or spec.model_kwargs or of_a_test:
            return loading.load(spec)
        key = f"{builtin.cache_folder()}, {pick_device(spec.device)}, {spec.dtype}, {spec.packaged}"
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = loading.load(spec)
                self._sums[key] = self._sum(key)
            loaded = self._loaded[key]
        # A parameter of its own, so that it may be moved or cast without the others.
        weights = {id(one): torch.nn.Parameter(one.detach()) for one in loaded.body.parameters()}
        return replace(loaded, body=copy.deepcopy(loaded.body, weights))

    def _sum(self, key):
        return [one.view(torch.uint8).sum(dtype=torch.int64).item() for one in self._loaded[key].body.parameters()]

    def check(self):
        for key, expected in self._sums.items():
            assert self._sum(key) == expected, f"a test has written to the weights of {key}"


@pytest.fixture(scope="session")
def shared_weights():
    shared = SharedWeights()
    yield shared
    shared.check()


@pytest.fixture(autouse=True)
def weights_are_read_once(request, monkeypatch):
    """Encoders of the built-in model share its weights; where loading is tested (tests/model), each loads its own."""
    if "builtin_folder" in request.fixturenames:
        monkeypatch.setattr("echo_embeddings.engine.engine.load", request.getfixturevalue("shared_weights").load)


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
