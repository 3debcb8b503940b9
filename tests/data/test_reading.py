"""Bytes of files, named pipes and streams as lines, within bounds. No model."""

import gzip
import io
import itertools
import os
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings.data import reading
from echo_embeddings.data.reading import Bounds, Input
from echo_embeddings.data.tables import open_table
from echo_embeddings.errors import InputError


def read(source, **bounds):
    return [line for _, line in Input(source, "a", Bounds(**bounds)).lines()]


class Endless(io.RawIOBase):
    """A stream that never ends, and never has a newline."""

    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = b"x" * len(buffer)
        return len(buffer)


def texts(source, **bounds):
    return list(open_table(source, bounds=Bounds(**bounds)).texts())


def test_an_endless_line_is_refused():
    message = r"a:1: this line is longer than 67,108,864 bytes.*raise max_row_bytes \(--max-row-mb\)"
    with pytest.raises(InputError, match=message):
        read(io.BufferedReader(Endless()))
    with pytest.raises(InputError, match="a:2: this line is longer than 5 bytes"):
        read(io.BytesIO(b"1234\n12345\n"), row_bytes=5)
    assert read(io.BytesIO(b"1234\n12345\n"), row_bytes=6) == ["1234\n", "12345\n"]


def test_a_row_of_csv_whose_quote_is_never_closed_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text\ngood\n"never closed\n' + "line\n" * 100)
    message = r"a\.csv:3: the row that begins on this line \(is a quote not closed\?\) is longer than 300 bytes"
    with pytest.raises(InputError, match=message):
        texts(path, row_bytes=300)
    path.write_text("text\n" + "ten letter\n" * 100)
    assert len(texts(path, row_bytes=11)) == 100


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz", "a.csv.gz"])
def test_a_small_file_that_grows_without_end_is_refused_at_once(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"text\n" * name.startswith("a.csv") + b"\n" * 5_000_000))
    started = time.process_time()
    message = (
        r"a\..*gz:\d+: the file becomes larger than 1,\d{3},\d{3} bytes when it is decompressed.*--max-decompressed-mb"
    )
    with pytest.raises(InputError, match=message):
        texts(path)
    assert time.process_time() - started < 10
    path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 5000))
    with pytest.raises(InputError, match="larger than 60,000 bytes"):
        read(path, decompressed_bytes=60_000)
    assert len(read(path, decompressed_bytes=70_000)) == 5000


def test_what_is_packed_well_and_right_is_read(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("".join(f"number {n} of many\n" for n in range(200_000)).encode()))
    assert len(read(path)) == 200_000


def test_a_parquet_file_is_bounded_too(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "x" * 100]}), path)
    with pytest.raises(InputError, match=r"a\.parquet, row 2: this text is longer than 99 bytes"):
        texts(path, row_bytes=99)
    assert len(texts(path, row_bytes=100)) == 2
    pq.write_table(pa.table({"text": ["x" * 10_000_000]}), path, compression="zstd")
    with pytest.raises(InputError, match=r"a\.parquet: the file becomes larger than 1,\d+,\d+ bytes"):
        texts(path)
    assert len(texts(path, decompressed_bytes=2**25)) == 1


@pytest.mark.parametrize("name", ["row_bytes", "decompressed_bytes"])
def test_bounds_are_positive(name):
    with pytest.raises(InputError, match=f"max_{name}=0: give a whole number of at least 1"):
        Bounds(**{name: 0})


def test_a_named_pipe_is_read_as_a_stream(tmp_path):
    pipe = tmp_path / "a.txt"
    os.mkfifo(pipe)
    content = [f"line {n}\n" for n in range(50_000)]
    writer = threading.Thread(target=lambda: pipe.write_text("".join(content)))
    writer.start()
    assert read(pipe) == content
    writer.join()

    def slow():
        with pipe.open("w") as file:
            time.sleep(0.3)
            file.write("text\n")

    writer = threading.Thread(target=slow)
    writer.start()
    assert texts(pipe) == ["text"]
    writer.join()


def test_a_named_pipe_without_a_writer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_PATIENCE", 0.2)
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a\.txt is a named pipe, and no program has written into it for"):
        texts(tmp_path / "a.txt")
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet is a pipe, and parquet cannot be read from one; give a file"):
        open_table(tmp_path / "a.parquet")


def test_a_stream_needs_no_lines_of_its_own():
    class Pieces:
        def __init__(self, content):
            self.pieces = iter(content)

        def read(self, size):
            return "".join(itertools.islice(self.pieces, 3)).encode()

    assert read(Pieces("one\ntwo\nthree")) == ["one\n", "two\n", "three"]
    with pytest.raises(TypeError, match="a stream is read in binary mode"):
        read(type("Text", (), {"read": lambda self, size: "text"})())


def test_a_stream_that_fails_is_named():
    def fail(self, size):
        raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match=r"a:1: the input cannot be read \(Input/output error\)"):
        read(type("Broken", (), {"read": fail})())


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("as_stream", [False, True])
def test_a_file_that_changed_after_it_was_read_is_noticed(tmp_path, name, as_stream):
    path = tmp_path / name
    before = gzip.compress(b"one\ntwo\n", mtime=0) + b"\0" * 8 if name.endswith("gz") else b"one\ntwo\n"
    path.write_bytes(before)
    when = path.stat()
    with path.open("rb") as file:
        content = Input(file if as_stream and name == "a.txt" else path, "a")
        assert content.is_unchanged()
        assert len(list(content.lines())) == 2
        assert content.is_unchanged()
        path.write_bytes(before[:-1] + b"x")
        os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
        assert not content.is_unchanged()
        path.write_bytes(before)
        assert content.is_unchanged()
        path.unlink()
        assert content.is_unchanged() == (as_stream and name == "a.txt")


def test_what_cannot_be_read_again_counts_as_unchanged(tmp_path):
    packed = gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b"one\n")))
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\n"))
    with gzip.open(path) as of_file:
        for stream in (io.BytesIO(b"one\n"), packed, of_file):
            content = Input(stream, "a")
            assert list(content.lines()) == [(1, "one\n")]
            assert content.is_unchanged()
