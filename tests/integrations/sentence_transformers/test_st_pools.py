"""The module in other processes: sentence-transformers' own pools, plain pickle, and a fork."""

import os
import pickle

import numpy as np
import pytest

from echo_embeddings import EchoConfig, EchoEncoder, TruncationWarning
from sentence_transformers_echo import from_encoder
from tests import processes
from tests.architectures import tiny
from tests.conftest import cosines
from tests.forks import Background, forked

TEXTS = ["The ferry leaves the island at dawn.", "Bread rises faster in a warm room.", "a"]
ARRIVES = """
import pickle, sys
import numpy as np
assert "echo_embeddings" not in sys.modules
with open(sys.argv[1], "rb") as file:
    np.save(sys.argv[2], pickle.load(file).encode(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    """Loaded by its name, so that it has all faster ways, block attention among them."""
    folder = tmp_path_factory.mktemp("model")
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = EchoConfig.preset("late-echo").replace(query_template="Question: {text}\nThe question again: {text}")
    model = from_encoder(EchoEncoder(folder, config, dtype="bfloat16", device="cpu"))
    assert model[0].auto_model.config._attn_implementation == "echo_causal"
    return model


def test_a_pool_of_processes_gives_the_same_vectors(model):
    """``encode`` with several devices starts a pool and stops it, as ``start_multi_process_pool`` does."""
    queries, longest = model.encode_query(TEXTS * 4), model.max_seq_length
    assert cosines(queries, model.encode(TEXTS * 4)).max() < 0.999
    model.max_seq_length = 20
    try:
        with pytest.warns(TruncationWarning, match="1 text.* max_length=20 tokens") as seen:  # said in this process
            vectors = model.encode_query([*TEXTS * 4, "too long " * 20], device=["cpu", "cpu"], chunk_size=7)
    finally:
        model.max_seq_length = longest
    assert len(seen) == 1
    assert cosines(vectors[:-1], queries).min() > 0.999


def test_a_pickled_model_works_in_a_fresh_process(model, tmp_path):
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    done = processes.run(ARRIVES, tmp_path / "model", tmp_path / "vectors.npy", *TEXTS)
    assert done.returncode == 0, done.stderr
    assert cosines(np.load(tmp_path / "vectors.npy"), model.encode(TEXTS)).min() > 0.999


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here")
def test_a_process_forked_while_other_threads_use_it_gives_the_same_vectors(model):
    expected = model.encode(TEXTS)
    with Background(lambda: model.encode(TEXTS)):
        assert cosines(forked(lambda: model.encode(TEXTS)), expected).min() > 0.999
