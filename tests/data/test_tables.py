"""Tables of texts, whatever they are read from, and what is said about rows without a text. No model."""

import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings.data.tables import open_table, path_of
from echo_embeddings.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(source, column="text", **options):
    return list(open_table(source, column, **options).texts())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a\nb\n"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"}\n'),
        ("a.ndjson", '{"text": "a"}\n{"text": "b"}\n'),
        ("a.csv", "text\na\nb\n"),
        ("a.csv.gz", gzip.compress(b"text\na\nb\n", mtime=0)),
    ],
)
def test_the_suffix_says_the_format(write, name, content):
    path = write(name, content)
    assert texts(path) == texts(str(path)) == ["a", "b"]
    assert path_of(path) == path


def test_the_format_can_be_said(write):
    assert texts(write("a.tab", "text\na\n"), format="csv") == ["a"]


def test_streams_are_jsonl_unless_something_else_is_said(monkeypatch):
    assert texts(io.BytesIO(b'{"text": "a"}\n')) == ["a"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert texts("-", format="txt") == ["a", "b"]
    assert path_of("-") is None
    with pytest.raises(InputError, match="the stream:1: this line is not JSON"):
        texts(io.BytesIO(b"a\n"))


def test_rows_in_memory():
    assert texts(iter([{"body": "a", "n": 1}, {"body": "b"}]), "body") == ["a", "b"]
    assert texts(["a", "b"]) == texts(["a", "b"], "body") == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (io.StringIO("a"), "a stream is read in binary mode"),
        ({"text": ["a"]}, r"dict is no table of rows; give a path, or an iterable of dictionaries or strings"),
        ({"a", "b"}, "set is no table of rows"),
        (pa.table({"text": ["a"]}), "Table is no table of rows"),
        (5, "int is no table; give a path"),
    ],
)
def test_what_is_no_table_is_refused(source, message):
    with pytest.raises(TypeError, match=message):
        open_table(source)


def test_a_data_frame_is_refused_and_its_records_are_not():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"]})
    with pytest.raises(TypeError, match=r"df\.to_dict\('records'\)"):
        open_table(frame)
    assert texts(frame.to_dict("records")) == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"body": "a", "n": 1}], "row 1: there is no column 'text', only body, n; choose one with --column"),
        ([{"text": "a"}, {"text": None}], "row 2: 'text' is null; drop the row or give it a text"),
        ([{"text": 5}], r"row 1: 'text' is int \(5\), not a text"),
        ([{"text": float("nan")}], r"row 1: 'text' is float \(nan\), not a text"),
        (["a", ["b"]], r"row 2 is list \(\['b'\]\), not a dictionary or a text"),
    ],
)
def test_a_row_without_a_text_is_named(rows, message):
    with pytest.raises(InputError, match=message):
        texts(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\nbad \xff\n", r"a\.txt:2: this line is not UTF-8"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a\.jsonl:2: this line is not JSON"),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n', r"a\.jsonl:2: 'text' is null; drop the row or give it a text"),
        ("a.csv", "id,text\n1,a\n2\n", r"a\.csv:3: this row has 1 cells, but the header has 2"),
    ],
)
def test_a_row_of_a_file_is_named_by_its_line(write, name, content, message):
    path = write(name, content)
    with pytest.raises(InputError, match=message):
        texts(path)


def test_chunks_hold_columns_where_they_are_asked_for(write):
    table = open_table(write("a.csv", "id,text\n" + "".join(f"{i},t{i}\n" for i in range(5))))
    read = list(table.chunks(2, columns=True))
    assert [chunk.texts for chunk in read] == [["t0", "t1"], ["t2", "t3"], ["t4"]]
    assert read[1].columns.to_pylist() == [{"id": "2", "text": "t2"}, {"id": "3", "text": "t3"}]
    assert next(table.chunks(2, columns=False)).columns is None


def test_parquet_in_chunks_over_row_groups(tmp_path):
    table = pa.table({"text": [f"t{i}" for i in range(10)], "n": range(10)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    opened = open_table(tmp_path / "a.parquet")
    assert opened.total == 10
    read = list(opened.chunks(4, columns=True))
    assert [len(chunk.texts) for chunk in read] == [4, 4, 2]
    assert pa.concat_tables([chunk.columns for chunk in read]).equals(table)
    assert [row for _, row in opened.rows()][7] == {"text": "t7", "n": 7}
    assert texts(tmp_path / "a.parquet") == [f"t{i}" for i in range(10)]


def test_an_unknown_suffix_or_format(write):
    path = write("a.docx", "x")
    with pytest.raises(
        InputError,
        match=r"'\.docx' is unknown; give a \.txt, \.jsonl, \.csv \(all three also with \.gz\) or \.parquet file",
    ):
        open_table(path, "text")
    with pytest.raises(InputError, match="format='xml' is unknown; choose one of txt, jsonl, csv"):
        open_table(path, format="xml")
    with pytest.raises(InputError, match="format='csv' is for paths and streams; rows in memory have none"):
        open_table(["a"], format="csv")


def test_a_txt_file_without_that_column_is_refused_when_it_is_opened(write):
    path = write("a.txt", "x")
    with pytest.raises(InputError, match="has no column 'body'; the lines of a .txt file are the column 'text'"):
        open_table(path, "body")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_table(tmp_path / "gone.txt")
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(InputError, match="is a folder; give a .txt"):
        open_table(tmp_path / "a.txt")
