"""A job that is stopped and goes on, on an encoder that needs no model; in processes that are killed, too."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings import TruncationWarning, embed_table
from echo_embeddings.data.embed_table import RowsDone, rows_saved
from echo_embeddings.errors import InputError
from tests.data.fake import FakeEncoder

ROWS = [{"id": i, "text": f"number {i} of many", "tags": ["x"] * (i % 3)} for i in range(10)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.jsonl").write_text(lines(ROWS))
    return tmp_path


def run(folder, output="out.parquet", source="in.jsonl", encoder=None, **options):
    encoder = encoder or FakeEncoder()
    source = folder / source if isinstance(source, str) and source != "-" else source
    return embed_table(source, folder / output, encoder, checkpoint_rows=4, **options)


def stop(folder, after=2, **options):
    """A run that is stopped after so many checkpoints."""
    with pytest.raises(KeyboardInterrupt):
        run(folder, encoder=FakeEncoder(stop_after=after), **options)


def vectors(rows, role=1):
    return np.array([[len(r["text"]), sum(map(r["text"].count, "aeiou")), role] for r in rows], np.float32)


def test_a_table_gets_its_vectors_as_a_last_column(folder):
    done = run(folder)
    assert (done.rows, done.resumed_from, done.dimension, done.target) == (10, 0, 3, folder / "out.parquet")
    made = pq.read_table(folder / "out.parquet")
    assert made.drop_columns("embedding").to_pylist() == ROWS
    np.testing.assert_array_equal(np.stack(made["embedding"].to_numpy()), vectors(ROWS))
    assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl", "out.parquet"]


def test_queries_to_npy(folder):
    run(folder, "out.npy", role="query")
    np.testing.assert_array_equal(np.load(folder / "out.npy"), vectors(ROWS, role=-1))


def test_every_type_of_a_parquet_file_is_kept(tmp_path):
    table = pa.table(
        {
            "text": pa.array([f"t{i}" for i in range(10)]).dictionary_encode(),
            "at": pa.array(range(10), pa.timestamp("ns", "UTC")),
            "small": pa.array([None, *range(9)], pa.uint8()),
            "half": pa.array([[i, None] for i in range(10)], pa.list_(pa.float32(), 2)),
            "map": pa.array([[("a", i)] for i in range(10)], pa.map_(pa.string(), pa.int16())),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=3)
    stop(tmp_path, source="in.parquet")
    assert run(tmp_path, source="in.parquet").resumed_from == 8
    assert pq.read_table(tmp_path / "out.parquet").drop_columns("embedding").equals(table)


@pytest.mark.parametrize("output", ["out.parquet", "out.npy"])
def test_a_run_that_was_stopped_goes_on_and_gives_the_same_bytes(folder, output):
    stop(folder, output=output)
    assert rows_saved(folder / output) == 8
    encoder = FakeEncoder()
    assert run(folder, output, encoder=encoder).resumed_from == 8
    assert encoder.embedded == [2]
    run(folder, f"whole-{output}")
    assert (folder / output).read_bytes() == (folder / f"whole-{output}").read_bytes()
    assert rows_saved(folder / output) == 0


@pytest.mark.parametrize(
    "source",
    [lambda: io.BytesIO(lines(ROWS).encode()), lambda: iter(ROWS), lambda: (dict(row) for row in ROWS)],
    ids=["stream", "list", "generator"],
)
def test_a_stream_is_read_once_and_goes_on_when_it_is_given_again(folder, source):
    stop(folder, source=source())
    assert run(folder, source=source()).resumed_from == 8
    run(folder, "whole.parquet")
    assert (folder / "out.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()


def test_strings_in_memory(tmp_path):
    done = run(tmp_path, source=iter(["one", "two"]))
    assert done.rows == 2
    assert pq.read_table(tmp_path / "out.parquet").column("text").to_pylist() == ["one", "two"]


def test_stdin(folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    assert run(folder, "out.npy", "-", format="txt").rows == 2


def changed(rows, number, **values):
    return [row | values if i == number else row for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "how"),
    [
        (changed(ROWS, 5, text="other"), "rows 5 to 8 are others"),
        (changed(ROWS, 1, id=99), "rows 1 to 4 are others"),
        (changed(ROWS, 1, more=None), "rows 1 to 4 are others"),
        ([ROWS[1], ROWS[0], *ROWS[2:]], "rows 1 to 4 are others"),
        (ROWS[:6], "rows 5 to 6 are others"),
        (ROWS[:4], "it ends after row 4"),
    ],
)
def test_another_input_is_not_mixed_in(folder, rows, how):
    stop(folder)
    (folder / "in.jsonl").write_text(lines(rows))
    message = rf"in\.jsonl: the input changed since 8 of its rows were saved in .*out\.parquet\.parts: {how}\. Give the"
    with pytest.raises(InputError, match=message):
        run(folder)
    assert run(folder, restart=True).rows == len(rows)


@pytest.mark.parametrize("rows", [changed(ROWS, 9, text="other"), [*ROWS, ROWS[0]], ROWS[:9], ROWS[:8]])
def test_rows_that_are_not_saved_yet_may_change(folder, rows):
    stop(folder)
    (folder / "in.jsonl").write_text(lines(rows))
    assert run(folder).resumed_from == 8
    assert pq.read_table(folder / "out.parquet").num_rows == len(rows)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": 9, "text": null}', r"in\.jsonl:10: 'text' is null; drop the row or give it a text"),
        (b'{"id": 9, "body": "a"}', r"in\.jsonl:10: there is no column 'text', only id, body"),
        (b'{"id": 9, "text": 5}', r"in\.jsonl:10: 'text' is int \(5\), not a text"),
        (b'{"id": 9, "text": "\xff"}', r"in\.jsonl:10: this line is not UTF-8"),
        (b'{"id": 9, "text": ', r"in\.jsonl:10: this line is not JSON"),
        (b'{"id": 18446744073709551616, "text": "a"}', r"in\.jsonl:10: parquet cannot hold column 'id' \(.*too large"),
        (b'{"id": 9, "text": "a", "tags": "x"}', r"in\.jsonl:10: parquet cannot hold column 'tags' \("),
        (b'{"id": 9, "text": "a", "tags": [[1]]}', r"in\.jsonl:10: parquet cannot hold column 'tags' \("),
    ],
)
def test_a_bad_row_is_named_and_those_before_it_stay_saved(folder, line, message):
    good = lines(ROWS[:9]).encode()
    (folder / "in.jsonl").write_bytes(good + line + b"\n")
    saved = r".*8 rows are saved in .*out\.parquet\.parts: mend the input and run the same again to go on"
    with pytest.raises(InputError, match=message + saved):
        run(folder)
    (folder / "in.jsonl").write_text(lines(ROWS))
    encoder = FakeEncoder()
    assert run(folder, encoder=encoder).resumed_from == 8
    assert encoder.embedded == [2]


def test_a_bad_row_among_the_first_leaves_nothing(folder):
    (folder / "in.jsonl").write_text(lines(changed(ROWS, 2, text=None)))
    with pytest.raises(InputError, match=r"in\.jsonl:3: 'text' is null; drop the row or give it a text$"):
        run(folder)
    assert [path.name for path in folder.iterdir()] == ["in.jsonl"]


def test_a_column_that_changes_its_type_late_does_not_cost_the_vectors(folder):
    (folder / "in.jsonl").write_text(lines([*ROWS[:8], *({"id": "x", "text": row["text"]} for row in ROWS[8:])]))
    with pytest.raises(
        InputError,
        match=r"in\.jsonl, rows 9 to 10: parquet cannot hold column 'id' \(.*int64 vs string.* 8 rows are saved in .*"
        r"for the vectors alone, rename that folder to out\.npy\.parts and write to out\.npy",
    ):
        run(folder)
    (folder / "out.parquet.parts").rename(folder / "out.npy.parts")
    encoder = FakeEncoder()
    assert run(folder, "out.npy", encoder=encoder).resumed_from == 8
    assert encoder.embedded == [2]
    np.testing.assert_array_equal(np.load(folder / "out.npy"), vectors(ROWS))


def test_a_number_that_later_fractions_make_impossible_does_not_cost_the_vectors(folder):
    (folder / "in.jsonl").write_text(lines([{"text": "a", "n": 2**53 + 1}] * 4 + [{"text": "b", "n": 0.5}] * 4))
    with pytest.raises(InputError, match=r"in\.jsonl: parquet cannot hold column 'n' .* 8 rows are saved in .*rename"):
        run(folder)
    (folder / "out.parquet.parts").rename(folder / "out.npy.parts")
    assert run(folder, "out.npy").resumed_from == 8


def test_vectors_without_columns_do_not_become_parquet(folder):
    stop(folder, output="out.npy")
    (folder / "out.npy.parts").rename(folder / "out.parquet.parts")
    with pytest.raises(InputError, match="holds vectors without the other columns, as for a .npy file; write to .npy"):
        run(folder)


@pytest.mark.parametrize(
    ("options", "encoder", "named"),
    [
        ({"role": "query"}, FakeEncoder(), "--role"),
        ({}, FakeEncoder(config="other"), "the configuration"),
        ({}, FakeEncoder(adapter="other"), "the adapter or model_kwargs"),
    ],
)
def test_vectors_of_something_else_are_not_mixed_in(folder, options, encoder, named):
    stop(folder)
    with pytest.raises(InputError, match=f"holds an unfinished run of something else: {named}.* changed since"):
        run(folder, encoder=encoder, **options)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_input(tmp_path, content):
    (tmp_path / "in.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"in\.jsonl is empty: there is nothing to embed"):
        run(tmp_path)
    with pytest.raises(InputError, match="the input is empty: there is nothing to embed"):
        run(tmp_path, source=iter([]))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role": "passage"}, "role='passage' is unknown; choose document or query"),
        ({"output": "out.csv"}, r"the suffix '\.csv' is unknown; write to \.parquet or \.npy"),
        ({"source": "in.xml"}, r"the suffix '\.xml' is unknown"),
    ],
)
def test_arguments_that_cannot_work(folder, options, message):
    with pytest.raises(InputError, match=message):
        run(folder, **options)
    with pytest.raises(InputError, match="checkpoint_rows=0: give at least 1 row"):
        embed_table(folder / "in.jsonl", folder / "out.npy", FakeEncoder(), checkpoint_rows=0)


def test_an_output_that_is_there_is_kept_unless_all_shall_begin_anew(folder):
    run(folder)
    with pytest.raises(InputError, match="exists; add --restart"):
        run(folder)
    assert run(folder, restart=True).resumed_from == 0


def test_truncated_texts_are_counted_over_all_runs_and_warned_of_once(folder):
    class Warns(FakeEncoder):
        def _encode(self, texts, role, advance):
            warnings.warn(TruncationWarning("too long", texts=1, tokens=2), stacklevel=1)
            return super()._encode(texts, role, advance)

    (folder / "in.jsonl").write_text(lines([{"text": "x" * 22}] * 10))
    with pytest.warns(TruncationWarning) as said:
        done = run(folder, encoder=Warns())
    assert (done.truncated_texts, done.truncated_tokens, len(said)) == (10, 20, 1)
    stop(folder, restart=True)
    assert run(folder).truncated_texts == 10


def test_progress(folder, capsys):
    stop(folder, after=1)
    seen = []
    run(folder, show_progress=seen.append)
    assert seen[0] == RowsDone(4, 4, None)
    assert seen[-1] == RowsDone(10, 4, None)
    pq.write_table(pa.table({"text": ["a", "b"]}), folder / "in.parquet")
    run(folder, "other.npy", "in.parquet", show_progress=seen.append)
    assert seen[-1] == RowsDone(2, 0, 2)
    run(folder, "third.npy", show_progress=True)
    assert "10row" in capsys.readouterr().err


ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from echo_embeddings import embed_table
from tests.data.fake import FakeEncoder
source, target = sys.argv[1:]
embed_table(source, target, FakeEncoder(seconds=0.02), checkpoint_rows=4)
"""


def start(folder, source, output):
    command = [sys.executable, "-c", SCRIPT, source, output]
    with (folder / "in.jsonl").open("rb") as stdin:
        env = os.environ | {"PYTHONPATH": os.fspath(ROOT)}  # where `tests` is found
        return subprocess.Popen(command, cwd=folder, env=env, stdin=stdin, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("source", ["in.jsonl", "-"])
@pytest.mark.parametrize("output", ["out.parquet", "out.npy"])
def test_killed_again_and_again_it_gives_the_same_bytes(tmp_path, source, output):
    (tmp_path / "in.jsonl").write_text(lines(ROWS * 16))
    parts, kills = tmp_path / f"{output}.parts", 0
    for wanted in (1, 8, 16):
        process = start(tmp_path, source, output)
        deadline = time.monotonic() + 60
        while len(list(parts.glob("*.npz"))) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        process.stderr.close()
        assert not (tmp_path / output).exists()
    assert kills == 3
    process = start(tmp_path, source, output)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert not parts.exists()
    run(tmp_path, f"whole-{output}")
    assert (tmp_path / output).read_bytes() == (tmp_path / f"whole-{output}").read_bytes()
