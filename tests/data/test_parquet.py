"""Parquet in, and parquet with vectors out. No model."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings.data.parquet import write_parquet
from echo_embeddings.data.tables import open_table
from echo_embeddings.errors import InputError


def texts(path, column="text"):
    return list(open_table(path, column).texts())


def test_parquet_reads_a_dictionary_column(tmp_path):
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a"]}, r"a\.parquet: there is no column 'text', only body; choose one with --column"),
        ({"text": [1, 2]}, r"a\.parquet: column 'text' holds int64, not texts"),
        ({"text": ["a", None]}, r"a\.parquet, row 2: 'text' is null; drop the row or give it a text"),
    ],
)
def test_parquet_that_cannot_be_embedded(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        texts(tmp_path / "a.parquet")


def test_two_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet has two columns 'text'; rename one"):
        open_table(tmp_path / "a.parquet")


def test_a_text_that_is_not_utf8_is_named_by_its_row(tmp_path):
    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    bad = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"a\xff"))
    pq.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet, row 2: this text is not UTF-8"):
        texts(tmp_path / "a.parquet")


def test_a_file_that_is_no_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("not parquet at all")
    with pytest.raises(InputError, match=r"a\.parquet is not a readable parquet file"):
        open_table(path, "text")


def test_a_file_that_is_damaged_in_the_middle(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(1000)]}), path, compression="none")
    content = bytearray(path.read_bytes())
    content[10:200] = b"\xff" * 190
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"a\.parquet cannot be read to its end"):
        texts(path)


def test_pieces_become_row_groups_and_vectors_a_last_column(tmp_path):
    table = pa.table({"text": [f"t{i}" for i in range(20)]})
    vectors = np.arange(60, dtype=np.float32).reshape(20, 3)
    pieces = ((table.slice(i, 2), vectors[i : i + 2]) for i in range(0, 20, 2))
    write_parquet(tmp_path / "a.parquet", table.schema, 3, pieces)
    made = pq.read_table(tmp_path / "a.parquet")
    assert made.drop_columns("embedding").equals(table)
    assert made.schema.field("embedding").type == pa.list_(pa.float32(), 3)
    np.testing.assert_array_equal(np.stack(made["embedding"].to_numpy()), vectors)
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 1
