"""``search``: what it refuses before a model is loaded."""

import numpy as np
import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.search import Index


@pytest.fixture
def idx(tmp_path):
    """An index that says it was made with the built-in model."""

    class Encoder:
        model_name, config, dimension = "SmolLM2-135M-Instruct", EchoConfig.preset("echo"), 2

        def encode_documents(self, texts, **_):
            return np.ones((len(texts), 2), np.float32)

    Index.build(["a passage"], Encoder()).save(tmp_path / "idx")


def test_another_model_than_the_index_has(run, idx):
    assert run("search", "idx", "dog", "--model", "other/model", code=1) == (
        "error: idx was made with SmolLM2-135M-Instruct, and vectors of other/model cannot be compared with it; "
        "leave --model out, or make the index again"
    )


def test_what_is_no_index(run):
    assert run("search", "gone", "what?", code=1) == (
        "error: gone is not an index; make one with: echo-embeddings index FOLDER gone"
    )


def test_an_index_whose_files_disagree(run, idx, tmp_path):
    (tmp_path / "idx" / "passages.jsonl").write_text("")
    message = "error: idx/passages.jsonl has 0 passages, but manifest.json says 1; make the index again"
    assert run("search", "idx", "what?", code=1) == message
