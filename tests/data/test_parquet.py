"""Parquet in, and parquet with vectors out. No model."""

import contextlib

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


def test_a_value_that_python_cannot_hold_is_named_by_row_and_column(tmp_path):
    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    bad = {
        "not UTF-8": pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"a\xff")),
        "a late date": pa.array([0, 2**60], pa.timestamp("us")),
    }
    for name, values in bad.items():
        pq.write_table(pa.table({"text": ["a", "b"], name: values}), tmp_path / "a.parquet")
        table = open_table(tmp_path / "a.parquet")
        assert list(table.texts()) == ["a", "b"]
        with pytest.raises(InputError, match=rf"a\.parquet, row 2: the value in column '{name}' cannot be read \("):
            list(table.rows())


def test_two_fields_of_one_name_in_an_object(tmp_path):
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(pa.table({"text": ["a"], "o": twice}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["a"]
    with pytest.raises(InputError, match=r"a\.parquet, row 1: the value in column 'o' cannot be read"):
        list(open_table(tmp_path / "a.parquet").rows())


def test_a_file_that_is_replaced_after_it_was_opened(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    table = open_table(path)
    pq.write_table(pa.table({"body": ["a"]}), path)
    with pytest.raises(InputError, match=r"a\.parquet: the file was replaced by one with other columns"):
        list(table.texts())


def test_no_damage_of_a_file_is_a_library_error(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text {i}" for i in range(20)], "o": [{"a": [i]} for i in range(20)], "n": range(20)})
    pq.write_table(table, path, write_page_checksum=True)
    content, random = path.read_bytes(), np.random.default_rng(0)
    for case in range(300):
        damaged = bytearray(content)
        if case < 100:  # the footer is read first
            damaged[-8 - int(random.integers(len(content) // 2))] ^= 1 << int(random.integers(8))
        elif case < 200:
            damaged[int(random.integers(len(content)))] = int(random.integers(256))
        else:
            del damaged[int(random.integers(len(content))) :]
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(InputError):
            list(open_table(path).rows())


def test_a_value_that_its_type_holds_and_parquet_does_not_is_named(tmp_path):
    table = pa.table({"text": ["a", "b", "c"], "at": pa.array([0, 1, 2**60], pa.timestamp("s"))})
    pieces = ((table.slice(i, 1), np.ones((1, 3), np.float32)) for i in range(3))
    with pytest.raises(
        InputError, match=r"the input, row 3: parquet cannot hold column 'at' \(Integer overflow when casting"
    ):
        write_parquet(tmp_path / "a.parquet", table.schema, 3, pieces)
