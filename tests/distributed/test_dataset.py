"""``embed_dataset``: a Ray dataset gets the vectors that the encoder gives."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings import ConfigError, EchoEncoder, EncoderOptions, ModelError
from echo_embeddings.distributed import workers
from echo_embeddings.distributed.ray import EmbedBlocks, embed_dataset
from echo_embeddings.distributed.workers import Workers, arranged
from echo_embeddings.errors import InputError
from tests.distributed.conftest import texts_of


def test_a_dataset_gets_the_encoders_vectors(ray_of_two, tiny_options, tmp_path):
    texts = texts_of(300)
    pq.write_table(pa.table({"id": range(300), "text": texts}), tmp_path / "in.parquet")
    dataset = ray_of_two.data.read_parquet(str(tmp_path / "in.parquet"))
    embedded = embed_dataset(dataset, "text", "query", tiny_options, batch_rows=64)
    embedded.write_parquet(str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out").sort_by("id")
    assert table.column_names == ["id", "text", "embedding"]
    assert table["text"].to_pylist() == texts
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 32)
    expected = EchoEncoder.from_options(tiny_options).encode_queries(texts)
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), expected, atol=1e-5)


@pytest.fixture
def block(tiny_options):
    """What an actor does, in this process."""
    return EmbedBlocks(Workers(1, 0, 0, tiny_options), "text", "document", "embedding")


def test_an_error_names_file_and_row(block):
    with pytest.raises(InputError) as raised:
        block(pa.table({"path": ["a.parquet", "b.parquet"], "text": ["a", None]}))
    assert str(raised.value).startswith("b.parquet, row 2 of a block of 2: 'text' is null; drop the row or give")
    with pytest.raises(InputError, match="the dataset, row 1 of a block of 1: 'text' is int"):
        block(pa.table({"text": [1]}))


def test_columns_that_are_missing_or_there_already(block):
    with pytest.raises(InputError, match="the dataset has no column 'text'; it has 'id', 'body'"):
        block(pa.table({"id": [1], "body": ["a"]}))
    with pytest.raises(InputError, match="has a column 'embedding' already; rename it, or give another output="):
        block(pa.table({"text": ["a"], "embedding": [1]}))


def test_a_block_without_rows(block):
    table = block(pa.table({"text": pa.array([], pa.string())}))
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 32)


def test_a_model_that_cannot_be_loaded_is_said_when_it_is_used(tmp_path):
    block = EmbedBlocks(Workers(1, 0, 0, EncoderOptions(model=str(tmp_path / "missing"))), "text", "document", "v")
    with pytest.raises(ModelError, match="missing"):
        block(pa.table({"text": ["a"]}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"role": "passage"}, "role='passage' is unknown; choose document or query"),
        ({"batch_rows": 0}, "batch_rows=0: give a whole number of at least 1"),
        ({"workers": 0}, "workers=0: give a whole number of at least 1"),
        ({"num_cpus": -1}, "num_cpus=-1: give a number of at least 0"),
        (
            {"num_cpus": 64},
            "no node has room for a worker with num_cpus=64 and num_gpus=0; the most",
        ),
        ({"options": EncoderOptions(device="cuda")}, "device='cuda', and no node of the cluster has a GPU"),
        ({"options": EncoderOptions(devices=["cpu", "cpu"])}, "are of one machine; on Ray, say workers= and num_gpus="),
    ],
)
def test_wrong_arguments(ray_of_two, arguments, said):
    dataset = ray_of_two.data.from_items([{"text": "a"}])
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        embed_dataset(dataset, **arguments)


@pytest.mark.parametrize(
    ("nodes", "asked", "spare", "expected"),
    [
        ([(16, 0), (8, 0)], {}, 0, (6, 4, 0)),
        ([(16, 0), (8, 0)], {}, 1, (5, 4, 0)),
        ([(2, 0)], {}, 0, (1, 2, 0)),
        ([(2, 0)], {}, 1, (1, 1, 0)),
        ([(1, 0)], {}, 1, (1, 1, 0)),
        ([(64, 8), (4, 0)], {}, 1, (8, 1, 1)),
        ([(64, 8)], {"gpus": 0}, 0, (16, 4, 0)),
        ([(64, 8)], {"cpus": 16}, 0, (4, 16, 1)),
        ([(64, 8)], {"count": 3, "gpus": 0.5}, 0, (3, 1, 0.5)),
    ],
)
def test_what_a_worker_gets(monkeypatch, nodes, asked, spare, expected):
    monkeypatch.setattr(workers, "_nodes", lambda: nodes)
    made = arranged(None, asked.get("count"), asked.get("cpus"), asked.get("gpus"), spare=spare)
    assert (made.count, made.cpus, made.gpus) == expected
    assert made.options.device == (None if made.gpus else "cpu")
