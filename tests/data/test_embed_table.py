"""A job that is stopped and goes on, on an encoder that needs no model; in processes that are killed, too."""

import hashlib
import io
import json
import os
import shutil
import signal
import time
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings import TruncationWarning, embed_table
from echo_embeddings.data.embed_table import RowsDone, rows_saved
from echo_embeddings.errors import InputError, NumericalError
from tests import killing, processes
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


def stop(folder, after=2, encoder_config="c", **options):
    """A run that is stopped after so many checkpoints."""
    with pytest.raises(KeyboardInterrupt):
        run(folder, encoder=FakeEncoder(encoder_config, stop_after=after), **options)


def refused(folder, output, **options):
    """What a run says when it is refused; empty if it comes to its end."""
    try:
        run(folder, output, **options)
    except InputError as error:
        return str(error)
    return ""


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
    with pytest.raises(InputError, match="checkpoint_rows=0: give a whole number of at least 1"):
        embed_table(folder / "in.jsonl", folder / "out.npy", FakeEncoder(), checkpoint_rows=0)
    with pytest.raises(TypeError, match=r"encoder must be an EchoEncoder, not 'a/model'; make one: EchoEncoder\('a"):
        embed_table(folder / "in.jsonl", folder / "out.npy", "a/model")


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


SCRIPT = """
import sys
from echo_embeddings import embed_table
from tests.data.fake import FakeEncoder
source, target = sys.argv[1:]
embed_table(source, target, FakeEncoder(seconds=0.02), checkpoint_rows=4)
"""


def start(folder, source, output):
    return processes.start(SCRIPT, source, output, cwd=folder, stdin=folder / "in.jsonl", stderr=folder / "errors")


@pytest.mark.parametrize("source", ["in.jsonl", "-"])
@pytest.mark.parametrize("output", ["out.parquet", "out.npy"])
def test_killed_again_and_again_it_gives_the_same_bytes(tmp_path, source, output):
    (tmp_path / "in.jsonl").write_text(lines(ROWS * 16))
    parts, kills = tmp_path / f"{output}.parts", 0
    for wanted in (1, 8, 16):
        process = start(tmp_path, source, output)
        deadline = time.monotonic() + 60
        while len(list(parts.glob("*.npz"))) < wanted and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        assert not (tmp_path / output).exists()
    assert kills == 3
    process = start(tmp_path, source, output)
    process.join(60)
    assert process.exitcode == 0, (tmp_path / "errors").read_text()
    assert not parts.exists()
    run(tmp_path, f"whole-{output}")
    assert (tmp_path / output).read_bytes() == (tmp_path / f"whole-{output}").read_bytes()


JOB = """
from pathlib import Path
from echo_embeddings import embed_table
from tests.data.fake import FakeEncoder
try:
    folder = Path({folder!r})
    embed_table(folder / "in.jsonl", folder / {output!r}, FakeEncoder("new"), checkpoint_rows=4, restart={restart})
except KeyboardInterrupt:
    raise SystemExit(130)
"""


@pytest.mark.parametrize(
    ("output", "kill", "restart"),
    [
        ("out.npy", signal.SIGKILL, False),
        pytest.param("out.npy", signal.SIGINT, True, marks=pytest.mark.slow),
        pytest.param("out.parquet", signal.SIGKILL, True, marks=pytest.mark.slow),
        pytest.param("out.parquet", signal.SIGINT, False, marks=pytest.mark.slow),
    ],
)
def test_killed_between_any_two_file_operations_the_output_is_whole_or_the_old_one(tmp_path, output, kill, restart):
    root = tmp_path / "root"
    rows = ROWS[:6] if restart else ROWS[:3]
    script = JOB.format(folder=str(root), output=output, restart=restart)
    (tmp_path / "in.jsonl").write_text(lines(rows))
    run(tmp_path, f"whole-{output}", encoder=FakeEncoder("new"))
    whole, old = (tmp_path / f"whole-{output}").read_bytes(), b"old"

    def begin():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        (root / "in.jsonl").write_text(lines(rows))
        if restart:  # over an output, and over an unfinished run of something else
            (root / output).write_bytes(old)
            stop(root, after=1, output=output, restart=True)

    begin()
    found = set()
    for _ in killing.at_each(script, root, kill):
        before = (root / output).read_bytes() if (root / output).exists() else b""
        assert before in (whole, old if restart else b"")
        found.add(before == whole)
        if said := refused(root, output, encoder=FakeEncoder("new")):
            assert ("exists; add --restart" in said) if before == whole else (restart and before == old)
            if before != whole:  # killed before the run of something else was removed
                run(root, output, encoder=FakeEncoder("new"), restart=True)
        assert (root / output).read_bytes() == whole
        assert sorted(path.name for path in root.iterdir()) == ["in.jsonl", output]
        begin()
    assert found == {False, True}


def test_a_second_run_on_one_output_is_refused_and_says_who_writes(folder):
    class Slow(FakeEncoder):
        def _encode(self, texts, role, advance):
            for restart in (False, True):
                with pytest.raises(
                    InputError, match=rf"out\.npy is being written by process {os.getpid()} on .*; wait"
                ):
                    run(folder, "out.npy", encoder=FakeEncoder("other"), restart=restart)
            with pytest.raises(InputError, match="is being written by process"):
                run(folder, "link.npy", encoder=FakeEncoder("other"))
            return super()._encode(texts, role, advance)

    (folder / "link.npy").symlink_to(folder / "out.npy")
    assert run(folder, "out.npy", encoder=Slow()).rows == 10
    np.testing.assert_array_equal(np.load(folder / "out.npy"), vectors(ROWS))


def test_a_checkpoint_that_is_damaged_or_of_another_job_is_computed_again(folder):
    run(folder, "whole.npy")
    stop(folder, output="out.npy", encoder_config="other", after=2)
    (folder / "out.npy.parts" / "000001.npz").rename(folder / "of-another.npz")
    shutil.rmtree(folder / "out.npy.parts")
    for damage in (
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: shutil.copy(folder / "of-another.npz", path),
        lambda path: path.unlink(),
    ):
        stop(folder, output="out.npy")
        damage(folder / "out.npy.parts" / "000001.npz")
        assert rows_saved(folder / "out.npy") == 4
        encoder = FakeEncoder()
        assert run(folder, "out.npy", encoder=encoder).resumed_from == 4
        assert encoder.embedded == [4, 2]
        assert (folder / "out.npy").read_bytes() == (folder / "whole.npy").read_bytes()
        (folder / "out.npy").unlink()


def damages(folder, other):
    """Functions that damage one file of a folder each, with their names: 60 cases."""
    random = np.random.default_rng(0)

    def flip(path):
        content = bytearray(path.read_bytes())
        at = int(random.integers(len(content) * 8))
        content[at // 8] ^= 1 << at % 8
        path.write_bytes(bytes(content))

    kinds = {
        "removed": lambda path: path.unlink(),
        "emptied": lambda path: path.write_bytes(b""),
        "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "swapped": lambda path: path.write_bytes((other / path.name).read_bytes()),
        "of another place": lambda path: path.write_bytes((folder / "000000.npz").read_bytes()),
    } | {f"bit {number}": flip for number in range(15)}
    for path in sorted(folder.iterdir()):
        for kind, damage in kinds.items():
            yield f"{path.name} {kind}", path, damage


@pytest.mark.parametrize("output", ["out.npy", "out.parquet"])
def test_a_damaged_folder_gives_the_right_vectors_or_one_error_that_names_it(folder, output):
    run(folder, f"whole-{output}")
    stop(folder, output=f"other-{output}", encoder_config="other")
    stop(folder, output=output)
    parts = folder / f"{output}.parts"
    shutil.copytree(parts, folder / "good")
    cases = list(damages(parts, folder / f"other-{output}.parts"))
    assert len(cases) == 60
    for name, path, damage in cases:
        damage(path)
        if said := refused(folder, output):
            assert f"{output}.parts" in said, name
        else:
            assert (folder / output).read_bytes() == (folder / f"whole-{output}").read_bytes(), name
        shutil.rmtree(parts, ignore_errors=True)
        (folder / output).unlink(missing_ok=True)
        shutil.copytree(folder / "good", parts)


def test_restart_removes_what_embed_made_and_nothing_else(folder):
    parts = folder / "out.npy.parts"
    parts.mkdir()
    (parts / "thesis.tex").touch()
    for restart in (False, True):
        with pytest.raises(
            InputError, match=r"out\.npy\.parts is in the way and was not made by embed; move it away or"
        ):
            run(folder, "out.npy", restart=restart)
    assert [path.name for path in parts.iterdir()] == ["thesis.tex"]
    (parts / "thesis.tex").unlink()
    stop(folder, output="out.npy")
    assert run(folder, "out.npy", restart=True).resumed_from == 0
    assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl", "out.npy"]


def test_a_link_as_output_is_written_through(folder):
    (folder / "disk").mkdir()
    for name in ("old.npy", "new.npy"):
        (folder / name).symlink_to(folder / "disk" / name)
    (folder / "disk" / "old.npy").touch()
    stop(folder, output="old.npy", restart=True)
    assert rows_saved(folder / "old.npy") == 8
    assert run(folder, "old.npy").resumed_from == 8
    assert run(folder, "new.npy").target == folder / "new.npy"
    for name in ("old.npy", "new.npy"):
        assert (folder / name).is_symlink()
        np.testing.assert_array_equal(np.load(folder / "disk" / name), vectors(ROWS))
    assert sorted(path.name for path in (folder / "disk").iterdir()) == ["new.npy", "old.npy"]


def test_an_output_that_is_no_file_is_refused(folder):
    os.mkfifo(folder / "pipe.npy")
    (folder / "loop.npy").symlink_to(folder / "loop.npy")
    for name, message in {"pipe.npy": "is no regular file", "loop.npy": "is a link that leads nowhere"}.items():
        for restart in (False, True):
            with pytest.raises(InputError, match=rf"{name} {message}.*; choose another output"):
                run(folder, name, restart=restart)


LIMITED = """
import resource, sys
from echo_embeddings import embed_table
from tests.data.fake import FakeEncoder
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    embed_table("in.jsonl", sys.argv[2], FakeEncoder(), checkpoint_rows=4)
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("output", "size"), [("out.npy", 1400), ("out.parquet", 4000)])
def test_a_disk_that_is_full_at_the_end_does_not_cost_the_vectors(tmp_path, output, size):
    rows = [{"text": hashlib.sha256(bytes([i % 256, i // 256])).hexdigest()} for i in range(400)]
    (tmp_path / "in.jsonl").write_text(lines(rows))
    done = processes.run(LIMITED, size, output, cwd=tmp_path)
    assert done.stdout.startswith("OutputError"), done
    assert f"400 rows are saved in {output}.parts: make room and run the same again to go on: '{output}'" in done.stdout
    assert run(tmp_path, output).resumed_from == 400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", output]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda made: made * [[1], [np.nan], [1], [1]], r"in\.jsonl, row 2: the encoder gave NaN or infinity"),
        (lambda made: made[:3], r"vectors of shape \(3, 3\) for 4 texts, not \(4, 3\)"),
    ],
)
def test_vectors_that_are_none_are_not_saved(folder, broken, message):
    class Broken(FakeEncoder):
        def _encode(self, texts, role, advance):
            return broken(super()._encode(texts, role, advance))

    with pytest.raises(NumericalError, match=message):
        run(folder, "out.npy", encoder=Broken())
    assert rows_saved(folder / "out.npy") == 0


def changes(content):
    """The input as it stands while it is embedded: edited, shortened, lengthened, replaced, removed."""
    edited = content.replace(b"number 9", b"Number 9")
    return {
        "edited": lambda path: path.write_bytes(edited),
        "edited where it was read": lambda path: path.write_bytes(content.replace(b"number 0", b"Number 0")),
        "shortened": lambda path: path.write_bytes(content[: len(content) // 2]),
        "emptied": lambda path: path.write_bytes(b""),
        "lengthened": lambda path: path.write_bytes(content + content[: content.index(b"\n") + 1]),
        "replaced": lambda path: (path.with_name("other").write_bytes(edited), path.with_name("other").replace(path)),
        "removed": lambda path: path.unlink(),
    }


@pytest.mark.parametrize("how", changes(b"\n"))
@pytest.mark.parametrize("output", ["out.npy", "out.parquet"])
def test_an_input_that_changes_while_it_is_embedded_is_an_error_and_nothing_is_lost(folder, output, how):
    path = folder / "in.jsonl"
    content, when = path.read_bytes(), path.stat()

    class Meanwhile(FakeEncoder):
        def _encode(self, texts, role, advance):
            if len(texts) == 2:  # the last rows
                changes(content)[how](path)
                if path.exists():
                    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
            return super()._encode(texts, role, advance)

    message = r"in\.jsonl: the input changed while it was embedded.* 10 rows are saved in .*parts: run the same again"
    with pytest.raises(InputError, match=message):
        run(folder, output, encoder=Meanwhile())
    assert not (folder / output).exists()
    if how == "lengthened":
        assert (done := run(folder, output)).rows == 11
        assert done.resumed_from == 8
    else:
        path.write_bytes(content)
        assert run(folder, output).resumed_from == 10


def test_a_parquet_file_or_a_redirected_file_that_changes_is_an_error_too(folder):
    table = pa.table({"text": [row["text"] for row in ROWS]})

    def meanwhile(change):
        class Meanwhile(FakeEncoder):
            def _encode(self, texts, role, advance):
                if len(texts) == 2:
                    change()
                return super()._encode(texts, role, advance)

        return Meanwhile()

    pq.write_table(table, folder / "in.parquet")
    with pytest.raises(InputError, match=r"in\.parquet: the input changed while it was embedded"):
        run(
            folder,
            source="in.parquet",
            encoder=meanwhile(lambda: pq.write_table(table.slice(1), folder / "in.parquet")),
        )
    changed = pytest.raises(InputError, match=r"in\.jsonl: the input changed while it was embedded")
    with (folder / "in.jsonl").open("rb") as stream, changed:
        run(folder, "b.npy", stream, encoder=meanwhile(lambda: (folder / "in.jsonl").write_text(lines(ROWS[1:]))))


def test_bounds_are_raised_by_options(folder):
    with pytest.raises(InputError, match=r"in\.jsonl:1: this line is longer than 20 bytes"):
        run(folder, max_row_bytes=20)
    assert run(folder, max_row_bytes=1000).rows == 10


@pytest.mark.parametrize(("precision", "dtype"), [("float16", np.float16), ("int8", np.int8), ("ubinary", np.uint8)])
def test_smaller_vectors(precision, dtype, tmp_path):
    class Smaller(FakeEncoder):
        def _encode(self, texts, role, advance):
            whole = super()._encode(texts, role, advance)
            return np.packbits(whole > 0, axis=1) if precision == "ubinary" else whole.astype(dtype)

    encoder = Smaller()
    encoder.precision = precision
    texts = [{"text": "a bee"}, {"text": "two"}]
    embed_table(texts, tmp_path / "out.npy", encoder)
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == dtype
    assert found.tolist() == encoder._encode(["a bee", "two"], 1, lambda _: None).tolist()
    embed_table(texts, tmp_path / "out.parquet", encoder)
    column = pq.read_table(tmp_path / "out.parquet")["embedding"]
    assert column.type == pa.list_(pa.from_numpy_dtype(dtype), found.shape[1])
    assert column.to_pylist() == found.tolist()
