"""Rows as columns that parquet can hold. No model."""

import math
from datetime import date, datetime

import pyarrow as pa
import pytest

from echo_embeddings.data.columns import Columns, as_bytes, digest, fitted, from_bytes, from_rows, merged
from echo_embeddings.errors import InputError


def placed(*rows):
    return [(f"a.jsonl:{number}", row) for number, row in enumerate(rows, start=1)]


def together(*chunks):
    """The tables of chunks of rows, under the one schema of them all."""
    tables, schema = [from_rows(placed(*rows)) for rows in chunks], None
    for table in tables:
        schema = merged(schema, table, "a.jsonl")
    return pa.concat_tables([fitted(table, schema, "a.jsonl") for table in tables])


ROWS = [{"text": "a", "n": 1}, {"text": "b", "n": 2.5, "tags": ["x"]}, {"text": "c", "at": {"k": True}}]
TYPES = {"text": "string", "n": "double", "tags": "list<item: string>", "at": "struct<k: bool>"}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_objects_that_differ_get_one_schema(size):
    table = together(*(ROWS[start : start + size] for start in range(0, 3, size)))
    assert {field.name: str(field.type) for field in table.schema} == TYPES
    assert table.column("n").to_pylist() == [1.0, 2.5, None]
    assert table.column("at").to_pylist() == [None, None, {"k": True}]


def test_objects_get_more_keys_later_and_nulls_get_a_type():
    table = together([{"o": {"a": 1}, "e": None, "l": []}], [{"o": {"b": "x"}, "e": 3, "l": [1, None]}])
    assert table.to_pylist() == [
        {"o": {"a": 1, "b": None}, "e": None, "l": []},
        {"o": {"a": None, "b": "x"}, "e": 3, "l": [1, None]},
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"n": 1}, {"n": "x"}], r"a\.jsonl:2: parquet cannot hold column 'n' \(Could not convert 'x'"),
        ([{"n": 1}, {"n": 2**63}], r"a\.jsonl:2: parquet cannot hold column 'n' \(.*too large"),
        ([{"n": 1}, {"n": 5}, {"n": -(2**70)}, {"n": 7}], r"a\.jsonl:3: parquet cannot hold column 'n'"),
        ([{"n": {"deep": [2**64]}}], r"a\.jsonl:1: parquet cannot hold column 'n'"),
        ([{"n": 1.5}, {"n": 2**53 + 1}], r"a\.jsonl:2: parquet cannot hold column 'n'"),
        ([{"n": [1]}, {"n": 1}], r"a\.jsonl:2: parquet cannot hold column 'n'"),
        ([{"n": True}, {"n": 1}], r"a\.jsonl:2: parquet cannot hold column 'n'"),
        ([{"text": "half \ud83d"}], r"a\.jsonl:1: parquet cannot hold column 'text' \("),
        ([{"a": 1}, {"half \ud83d": 1}], r"a\.jsonl:2: parquet cannot hold a column with the name 'half"),
        ([{5: 1}], r"a\.jsonl:1: parquet cannot hold a column with the name 5"),
    ],
)
def test_a_value_that_parquet_cannot_hold_is_named_by_row_and_column(rows, message):
    with pytest.raises(InputError, match=message + ".*or write to .npy"):
        from_rows(placed(*rows))


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([[{"n": 1}], [{"n": "x"}]], r"a\.jsonl: parquet cannot hold column 'n' \(.*int64 vs string"),
        ([[{"e": {}}]], r"parquet cannot hold column 'e' \(.*no child field"),
        ([[{"embedding": 1}]], "there is a column 'embedding' already; rename it, or write to .npy"),
        ([[{"n": 2**53 + 1}], [{"n": 0.5}]], r"parquet cannot hold column 'n' \(Integer value"),
    ],
)
def test_columns_that_change_on_the_way(chunks, message):
    with pytest.raises(InputError, match=message):
        together(*chunks)


def test_not_a_number_is_a_number():
    assert math.isnan(together([{"n": math.nan}], [{"n": 1}]).column("n")[0].as_py())


VALUES = {
    "text": ["a", None, "ü"],
    "n": [1, None, 2**62],
    "x": [0.5, math.nan, None],
    "b": [True, False, None],
    "t": [datetime(2024, 1, 1), None, datetime(2025, 1, 1)],
    "l": [[1.0, 2.0], None, []],
    "ll": [[["a"], []], [None], None],
    "o": [{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}],
    "bytes": [b"\xff", None, b""],
    "none": [None, None, None],
}


def test_a_digest_tells_values_apart_and_not_how_they_lie_in_memory():
    table = pa.table(VALUES)
    table = table.append_column("d", pa.array(["x", "y", "x"]).dictionary_encode())
    assert digest(from_bytes(as_bytes(table))) == digest(table)
    assert digest(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == digest(table)
    padded = pa.concat_tables([table, table]).slice(2, 3)
    assert digest(padded) == digest(table.take([2, 0, 1]))
    other = {digest(table.drop_columns(name)) for name in table.schema.names}
    assert len(other) == len(table.schema.names)
    for name in VALUES:
        if name != "none":
            column = table.column(name).take([1, 0, 2])
            changed = table.set_column(table.schema.get_field_index(name), name, column)
            assert digest(changed) != digest(table), name


def test_a_digest_takes_text_that_is_not_utf8():
    bad = pa.StringArray.from_buffers(1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff"))
    assert digest(pa.table({"t": bad})) != digest(pa.table({"t": [""]}))


def nested(depth):
    value = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("depth", [1, 63])
def test_nested_values_are_kept(depth):
    assert from_bytes(as_bytes(together([{"n": nested(depth)}]))).to_pylist() == [{"n": nested(depth)}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"n": 1}, {"n": 2}, {"n": "x"}, {"n": "y"}],
            r"'n' \(Unable to merge.*int64 vs string\).*first such row is place 3",
        ),
        ([{"n": 1}, {"n": 2}, {"n": None}, {"n": {}}], r"'n' \(.*The first such row is place 4"),
        ([{"n": None}, {"n": None}, {}, {"n": {}}], r"'n' \(Cannot write struct type.*The first such row is place 4"),
        ([{"n": None}, {"n": None}, {"n": nested(64)}], r"'n' \(it is nested more than 63 deep\).*row is place 3"),
        ([{"n": None}, {"n": None}, {"n": nested(300)}], r"'n' \(it is nested more than 63 deep\).*row is place 3"),
        ([{"n": date(2024, 1, 1)}, {}, {"n": "2024-01-01"}], r"'n' \(Unable to merge.*The first such row is place 3"),
        ([{"n": [1]}, {}, {"n": [{"a": 1}]}], r"'n' \(Unable to merge.*The first such row is place 3"),
    ],
)
def test_the_first_row_that_does_not_go_with_those_before_is_named(rows, message):
    columns = Columns("a.jsonl")
    columns.add(from_rows(placed(*rows[:2])), ["place 1", "place 2"])
    with pytest.raises(InputError, match=r"a\.jsonl, rows 3 to \d: parquet cannot hold column " + message):
        columns.add(from_rows(placed(*rows[2:])), ["place 3", "place 4"])


def test_a_row_that_later_rows_make_impossible_is_named():
    columns = Columns("a.jsonl")
    tables = [from_rows(placed(*rows)) for rows in ([{"n": 1}, {"n": 2}], [{"n": 3}, {"n": 2**53 + 1}], [{"n": 0.5}])]
    for table in tables:
        columns.add(table, ["?"] * table.num_rows)
    assert columns.fitted(as_bytes(tables[0])).column("n").to_pylist() == [1.0, 2.0]
    with pytest.raises(InputError, match=r"a\.jsonl: parquet cannot hold column 'n' .* The first such row is row 4"):
        columns.fitted(as_bytes(tables[1]))


def test_a_long_reason_is_said_in_one_short_line():
    with pytest.raises(InputError) as raised:
        from_rows(placed({"n": 1}, {"n": {f"key {i}\n": i for i in range(1000)}}))
    assert len(str(raised.value)) < 500
    assert "\n" not in str(raised.value)
