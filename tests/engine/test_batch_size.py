"""The probe for a token budget, on machines whose speed is made up; and the file that remembers it."""

import json
import time

import pytest
import torch
from transformers import AutoTokenizer

from echo_embeddings import EchoEncoder
from echo_embeddings.engine import batch_size
from tests.architectures import small_tokenizer, tiny
from tests.conftest import cosines


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path / "cache")
    return tmp_path / "cache" / "budgets.json"


def machine_with(seconds_a_token, tried):
    """A machine that needs so long for each token of a batch of so many."""

    def run(tokens):
        tried.append(tokens)
        cost = seconds_a_token(tokens)
        if cost is None:
            raise torch.OutOfMemoryError("no room")
        time.sleep(tokens * cost)

    return run


@pytest.mark.parametrize(
    ("seconds_a_token", "best", "largest"),
    [
        (lambda n: 1e-4 if n < 300 else 3e-4, 200, 400),  # out of the cache
        (lambda n: 1e-4 + 0.02 / n, 800, 800),  # a dear start of each pass: the larger the better
        (lambda n: 1e-4 + 0.02 / n if n < 300 else None, 200, 400),  # out of memory
    ],
)
def test_the_budget_is_the_one_that_costs_least_a_token(seconds_a_token, best, largest):
    tried = []
    assert batch_size.best_budget(100, machine_with(seconds_a_token, tried)) == best
    assert max(tried) == largest


def test_a_budget_is_found_once(cache):
    assert batch_size.remembered("here", lambda: 4096) == 4096
    assert batch_size.remembered("there", lambda: 1024) == 1024
    assert batch_size.remembered("here", lambda: pytest.fail("it is known")) == 4096
    assert json.loads(cache.read_text()) == {"here": 4096, "there": 1024}


@pytest.mark.parametrize("content", ["not JSON", "[1]", '{"here": "many"}', '{"here": -3}'])
def test_a_file_that_cannot_be_used_is_written_anew(cache, content):
    cache.parent.mkdir()
    cache.write_text(content)
    assert batch_size.remembered("here", lambda: 2048) == 2048
    assert json.loads(cache.read_text())["here"] == 2048


def test_a_folder_that_cannot_be_written_is_no_error(cache):
    cache.parent.write_text("a file where the folder should be")
    assert batch_size.remembered("here", lambda: 2048) == 2048


def test_only_a_large_job_probes_and_its_vectors_are_the_same(cache, builtin_folder, monkeypatch):
    model, tokenizer = tiny("llama", vocab_size=49152), AutoTokenizer.from_pretrained(builtin_folder)
    encoder = EchoEncoder(model, tokenizer=tokenizer, config="late-echo")
    texts = [f"text number {i}" for i in range(300)]
    usual = encoder.encode_documents(texts)
    assert not cache.exists()
    monkeypatch.setattr("echo_embeddings.engine.batch_size.default_budget", lambda *_: 64)
    probed = encoder.encode_documents(texts)
    ((key, budget),) = json.loads(cache.read_text()).items()
    assert "LlamaModel" in key
    assert budget in (32, 64, 128, 256, 512)
    assert cosines(usual, probed).min() > 0.9999


def test_a_pass_costs_less_in_float32_on_a_processor():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert batch_size.overhead_of(cpu, torch.float32, 1200) == 64
    assert batch_size.overhead_of(cpu, torch.bfloat16, 1200) == batch_size.overhead_of(gpu, torch.float32, 1200) == 100


def test_a_gpu_is_given_more_tokens_of_a_narrower_model():
    budgets = {width: batch_size.default_budget(torch.device("cuda"), width) for width in (576, 1024, 2048, 4096, 8192)}
    assert budgets == {576: 131072, 1024: 65536, 2048: 16384, 4096: 8192, 8192: 8192}
    assert batch_size.default_budget(torch.device("mps"), 576) == 16384
    assert batch_size.default_budget(torch.device("cpu"), 576) == 4096


def test_a_model_of_few_tokens_can_be_measured(cache, monkeypatch):
    """Texts to measure with are made of token ids, and a tiny model has not so many."""
    monkeypatch.setattr("echo_embeddings.engine.runtime._PROBED_FROM", 0)
    monkeypatch.setattr("echo_embeddings.engine.batch_size.default_budget", lambda *_: 64)
    texts = ["abc", "cab abc"]
    encoder = EchoEncoder(tiny("llama", vocab_size=90), "echo", tokenizer=small_tokenizer(texts))
    assert encoder.encode_documents(texts).shape == (2, 32)
