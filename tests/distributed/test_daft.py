"""Daft's ``embed_text`` with our provider."""

import daft
import numpy as np
import pytest
from daft.functions import embed_text

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, EncoderOptions
from echo_embeddings.distributed.daft import EchoProvider

TEXTS = ["the ferry leaves", None, "bread rises", "the ferry leaves"]

# Daft leaves sockets to its worker processes open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_a_column_gets_the_encoders_vectors_and_nulls_stay(tiny_options, tiny_encoder):
    """Daft runs this in a process of its own, so one test has to do; the others call what it calls."""
    frame = daft.from_pydict({"text": TEXTS})
    embedded = frame.with_column("v", embed_text(frame["text"], provider=EchoProvider(tiny_options)))
    assert embedded.schema()["v"].dtype == daft.DataType.embedding(daft.DataType.float32(), 32)
    found = embedded.to_pydict()["v"]
    assert found[1] is None
    expected = tiny_encoder.encode_documents([text for text in TEXTS if text])
    np.testing.assert_allclose(np.stack([one for one in found if one is not None]), expected, atol=1e-6)


def test_role_and_dimensions_are_options(tiny_options):
    options = tiny_options.replace(config=EchoConfig("{text}\n{text}", "query: {text} again: {text}"))
    encoder = EchoEncoder.from_options(options)
    query = EchoProvider(options).get_text_embedder(role="query").instantiate()
    np.testing.assert_allclose(query.embed_text([TEXTS[0]]), encoder.encode_queries(TEXTS[:1]), atol=1e-6)
    short = EchoProvider(options, role="query").get_text_embedder(dimensions=8)
    assert short.get_dimensions().size == 8
    expected = EchoEncoder.from_options(options.replace(dimensions=8)).encode_queries(TEXTS[0])
    np.testing.assert_allclose(short.instantiate().embed_text([TEXTS[0]])[0], expected, atol=1e-6)


@pytest.mark.parametrize(("dimensions", "size"), [(None, 1024), (256, 256)])
def test_the_dimension_is_that_of_the_config(dimensions, size):
    """The built-in model's hidden states have 576 dimensions; nothing is loaded to know what becomes of them."""
    described = EchoProvider().get_text_embedder(dimensions=dimensions)
    assert described.get_dimensions().size == size
    assert described.get_model() == EchoEncoder().model_name


def test_what_daft_asks_a_provider(tiny_options):
    described = EchoProvider(tiny_options, num_gpus=2, concurrency=3, name="mine").get_text_embedder(dtype="bfloat16")
    assert (described.get_provider(), described.get_model()) == ("mine", tiny_options.model)
    assert described.get_options()["dtype"] == "bfloat16"
    asked = described.get_udf_options()
    assert (asked.concurrency, asked.num_gpus, asked.max_retries) == (3, 2, 0)
    assert not described.is_async()


def test_wrong_options(tiny_options):
    with pytest.raises(ConfigError, match="role='passage' is unknown; choose document or query"):
        EchoProvider(role="passage")
    with pytest.raises(ConfigError, match=r"embed_text\(..., batch=\): there is no such option; choose from .*role"):
        EchoProvider().get_text_embedder(batch=3)
    with pytest.raises(ConfigError, match="concurrency=0: give a whole number of at least 1"):
        EchoProvider(concurrency=0)
    with pytest.raises(ConfigError, match="precision='int8': Daft's embeddings are of float32; leave it out"):
        EchoProvider().get_text_embedder(precision="int8")


def test_an_error_names_the_row(tiny_options):
    embedder = EchoProvider(tiny_options).get_text_embedder().instantiate()
    with pytest.raises(ValueError, match=r"row 3 of a batch of 3: int \(7\) is not a text; cast the column to string"):
        embedder.embed_text(["a", None, 7])
    assert embedder.embed_text([None]) == [None]


def test_a_width_that_must_be_asked_for(monkeypatch, tiny_folder):
    """A hub id: its ``config.json`` says the hidden size."""
    monkeypatch.setattr("echo_embeddings.distributed.daft.find_file", lambda *_: str(tiny_folder / "config.json"))
    options = EncoderOptions(model="some/model", config="classical")
    assert EchoProvider(options).get_text_embedder().get_dimensions().size == 32
