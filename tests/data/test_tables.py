"""Tables of texts, and what is said about those that cannot be embedded. No model."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings.data.parquet import output_schema
from echo_embeddings.data.tables import open_table
from echo_embeddings.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(path, column="text"):
    return list(open_table(path, column).texts())


def test_a_line_of_txt_is_a_text_and_an_empty_line_an_empty_text(write):
    assert texts(write("a.txt", "\ufeffone\r\n\n three \u2028 still\n")) == ["one", "", " three \u2028 still"]


def test_jsonl_skips_blank_lines(write):
    assert texts(write("a.jsonl", '{"text": "a", "n": 1}\n\n{"text": ""}\n')) == ["a", ""]


def test_csv_keeps_quotes_newlines_and_leading_zeros(write):
    table = open_table(write("a.csv", 'id,text\n007,"a, ""b""\nc"\n08,d\n'), "text")
    assert [row for _, row in table.rows()] == [{"id": "007", "text": 'a, "b"\nc'}, {"id": "08", "text": "d"}]


def test_parquet_reads_a_dictionary_column(tmp_path):
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", r"a\.txt is empty: there is nothing to embed"),
        ("a.csv", "", r"a\.csv is empty: there is nothing to embed"),
        ("a.csv", "text\n", r"a\.csv is empty: there is nothing to embed"),
        ("a.jsonl", "\n\n", r"a\.jsonl is empty: there is nothing to embed"),
        ("a.txt", b"good\nbad \xff\n", r"a\.txt:2: this line is not UTF-8 \(invalid start byte\); convert the file"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a\.jsonl:2: this line is not JSON \(Expecting value"),
        ("a.jsonl", '"text"\n', r"a\.jsonl:1: this line is not an object such as \{'text': \.\.\.\}"),
        (
            "a.jsonl",
            '{"body": "a", "n": 1}\n',
            r"a\.jsonl:1: there is no column 'text', only body, n; choose one with --column",
        ),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n', r"a\.jsonl:2: 'text' is null; drop the row or give it a text"),
        ("a.jsonl", '{"text": 5}\n', r"a\.jsonl:1: 'text' is int \(5\), not a text"),
        ("a.csv", "id,body\n1,a\n", r"a\.csv: there is no column 'text', only id, body; choose one with --column"),
        ("a.csv", "text,text\na,b\n", r"a\.csv has two columns 'text'; rename one"),
        ("a.csv", "id,text\n1,a\n2\n", r"a\.csv:3: this row has 1 cells, but the header has 2"),
        ("a.csv", 'text\n"a"b\n', r"a\.csv:2: this row is not CSV"),
    ],
)
def test_what_cannot_be_embedded_is_named_before_any_work(write, name, content, message):
    path = write(name, content)
    with pytest.raises(InputError, match=message):
        open_table(path, "text").count()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a"]}, r"a\.parquet: there is no column 'text', only body; choose one with --column"),
        ({"text": [1, 2]}, r"a\.parquet: column 'text' holds int64, not texts"),
        ({"text": ["a", None]}, r"a\.parquet, row 2: 'text' is null; drop the row or give it a text"),
        ({"text": pa.array([], pa.string())}, r"a\.parquet is empty"),
    ],
)
def test_parquet_that_cannot_be_embedded(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        open_table(tmp_path / "a.parquet", "text").count()


def test_a_file_that_is_no_parquet(write):
    path = write("a.parquet", "not parquet at all")
    with pytest.raises(InputError, match=r"a\.parquet is not a readable parquet file"):
        open_table(path, "text")


def test_an_unknown_suffix(write):
    path = write("a.docx", "x")
    with pytest.raises(
        InputError,
        match=r"'\.docx' is unknown; give a \.txt, \.jsonl, \.csv \(all three also with \.gz\) or \.parquet file",
    ):
        open_table(path, "text")


def test_a_txt_file_has_one_column(write):
    path = write("a.txt", "x")
    with pytest.raises(InputError, match="has no column 'body'; the lines of a .txt file are the column 'text'"):
        open_table(path, "body")


def test_the_schema_of_objects_that_differ(write):
    rows = [{"text": "a", "n": 1}, {"text": "b", "n": 2.5, "tags": ["x"]}, {"text": "c", "at": {"k": True}}]
    path = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    schema = output_schema(open_table(path, "text"))
    assert {field.name: str(field.type) for field in schema} == {
        "text": "string",
        "n": "double",
        "tags": "list<item: string>",
        "at": "struct<k: bool>",
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"text": "a", "embedding": 1}'], "has a column 'embedding' already; rename it, or write to .npy"),
        (['{"text": "a", "n": 1}', '{"text": "b", "n": "x"}'], r"parquet cannot hold column 'n' \("),
        (['{"text": "a", "e": {}}'], r"parquet cannot hold its columns \(.*write to \.npy"),
        (['{"text": "half \\ud83d"}'], r"parquet cannot hold column 'text' \("),
    ],
)
def test_what_parquet_cannot_hold_is_said_before_any_work(write, lines, message):
    path = write("a.jsonl", "\n".join(lines))
    with pytest.raises(InputError, match=message):
        output_schema(open_table(path, "text"))
