"""Text formats as rows, and what is said about lines that cannot be read. No model."""

import gzip
import io
import json

import pytest

from echo_embeddings.data.formats import FORMATS, decoded, lines
from echo_embeddings.errors import InputError


def rows(kind, content, column="text"):
    content = content if isinstance(content, bytes) else content.encode()
    return [row for _, row in FORMATS[kind](decoded(io.BytesIO(content), "a"), "a", column)]


def test_a_line_of_txt_is_a_text_and_an_empty_line_an_empty_text():
    read = rows("txt", "\ufeffone\r\n\n three \u2028 still\n")
    assert [row["text"] for row in read] == ["one", "", " three \u2028 still"]


def test_jsonl_skips_blank_lines():
    assert rows("jsonl", '{"text": "a", "n": 1}\n\n{"text": ""}\n') == [{"text": "a", "n": 1}, {"text": ""}]


def test_csv_keeps_quotes_newlines_and_leading_zeros():
    read = rows("csv", 'id,text\n007,"a, ""b""\nc"\n08,d\n')
    assert read == [{"id": "007", "text": 'a, "b"\nc'}, {"id": "08", "text": "d"}]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("txt", b"good\nbad \xff\n", r"a:2: this line is not UTF-8 \(invalid start byte\); convert the file"),
        ("jsonl", '{"text": "a"}\n{"text": \n', r"a:2: this line is not JSON \(Expecting value"),
        ("jsonl", '"text"\n', r"a:1: this line is not an object such as \{'text': \.\.\.\}"),
        ("jsonl", '{"text": "a", "text": "b"}\n', r"a:1: this line is not JSON \(an object has the key 'text' twice\)"),
        ("jsonl", '{"text": "a", "m": [{"b": 1, "b": 1}]}\n', "a:1: .*an object has the key 'b' twice"),
        ("jsonl", '{"text": ' + "[" * 100_000, "a:1: this line is nested too deeply to be read"),
        ("csv", "id,body\n1,a\n", "a: there is no column 'text', only id, body; choose one with --column"),
        ("csv", "text,text\na,b\n", "a has two columns 'text'; rename one"),
        ("csv", "id,text\n1,a\n2\n", "a:3: this row has 1 cells, but the header has 2"),
        ("csv", 'text\n"a"b\n', "a:2: this row is not CSV"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(kind, content, message):
    with pytest.raises(InputError, match=message):
        rows(kind, content)


def test_a_txt_file_has_one_column():
    with pytest.raises(InputError, match="has no column 'body'; the lines of a .txt file are the column 'text'"):
        rows("txt", "x", column="body")


@pytest.mark.parametrize("damage", [lambda content: content[:-12], lambda content: b"PK" + content[2:]])
def test_damaged_gzip_is_named(tmp_path, damage):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(damage(gzip.compress(json.dumps(list(range(50))).encode() + b"\n")))
    with pytest.raises(InputError, match=r"a\.txt\.gz:[12]: the gzip data is damaged \(.*\); compress the file again"):
        list(lines(path))
