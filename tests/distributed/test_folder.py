"""The job of a folder, without an engine: what is written, what a run that died leaves, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from echo_embeddings import EchoEncoder, NumericalError, embed_table
from echo_embeddings.data.reading import Bounds
from echo_embeddings.distributed.folder import SKIPPED, FolderJob, Work, embed_fragment, made_by
from echo_embeddings.distributed.fragments import Fragment, InputFile, fragments_of, input_files
from echo_embeddings.distributed.places import Place, place_of
from echo_embeddings.errors import InputError, OutputError
from tests import killing
from tests.distributed.conftest import texts_of

ROWS = 32


@pytest.fixture
def source(tmp_path) -> Path:
    """Three files: one of two fragments, with row groups that end elsewhere; one of one; one without rows."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    texts = texts_of(50)
    table = pa.table({"id": pa.array(range(50), pa.int16()), "text": pa.array(texts).dictionary_encode()})
    pq.write_table(table, folder / "a.parquet", row_group_size=14)
    pq.write_table(pa.table({"text": ["one", "two"], "tags": [["x"], []]}), folder / "sub" / "b.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), folder / "c.parquet")
    return folder


def work_of(encoder, source, target, column="text", role="document", rows=ROWS, skip=False):
    made = made_by(encoder, column, role, rows)
    read = source if isinstance(source, Place) else place_of(source, may_be_file=True)
    return Work(read, target if isinstance(target, Place) else place_of(target), column, role, skip, Bounds(), made)


def opened(work, rows=ROWS, restart=False):
    return FolderJob.open(work, fragments_of(input_files(work.source, work.column, work.bounds), rows), restart=restart)


def run(encoder, source, target, at_most=None, restart=False, **options):
    """The job, run in this process; returns it, and how many fragments were embedded."""
    work = work_of(encoder, source, target, **options)
    job = opened(work, options.get("rows", ROWS), restart)
    todo = job.todo[:at_most]
    for fragment in todo:
        embed_fragment(work, fragment, encoder)
    if at_most is None:
        job.look()
        job.require_same_input()
        job.finish()
    return job, len(todo)


def rows_of(folder):
    """All rows of a folder, in the order of its files' names."""
    return [row for path in sorted(folder.rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def bytes_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_output_is_what_one_machine_writes(source, tmp_path, tiny_encoder):
    job, count = run(tiny_encoder, source, tmp_path / "out")
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.parquet"))
    assert names == ["a-00000-of-00002.parquet", "a-00001-of-00002.parquet", "c.parquet", "sub/b.parquet"]
    assert (count, job.rows, job.skipped, job.todo) == (4, 52, 0, [])
    for name in ("a", "sub/b"):
        alone = tmp_path / "alone.parquet"
        embed_table(source / f"{name}.parquet", alone, tiny_encoder, checkpoint_rows=ROWS, restart=True)
        parts = [pq.read_table(path) for path in sorted((tmp_path / "out").glob(f"{name}*.parquet"))]
        assert pa.concat_tables(parts).equals(pq.read_table(alone))
    empty = pq.read_table(tmp_path / "out" / "c.parquet")
    assert (empty.num_rows, empty.schema.field("embedding").type) == (0, pa.list_(pa.float32(), 32))
    assert pq.read_table(tmp_path / "out" / "sub").num_rows == 2  # readers of folders do not see what else is there
    manifest = json.loads((tmp_path / "out" / "_echo_embeddings" / "manifest.json").read_text())
    assert manifest["made_with"]["model"] == tiny_encoder.model_name
    assert [file["name"] for file in manifest["files"]] == ["a.parquet", "c.parquet", "sub/b.parquet"]


def test_a_run_goes_on_where_another_stopped(source, tmp_path, tiny_encoder):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(tiny_encoder, source, whole)
    run(tiny_encoder, source, stopped, at_most=1)
    job, count = run(tiny_encoder, source, stopped)
    assert (count, job.rows) == (3, 52)
    assert bytes_of(stopped) == bytes_of(whole)
    assert run(tiny_encoder, source, stopped)[1] == 0
    assert bytes_of(stopped) == bytes_of(whole)


def test_files_that_were_added_are_embedded_too(source, tmp_path, tiny_encoder):
    run(tiny_encoder, source, tmp_path / "out")
    pq.write_table(pa.table({"text": ["new"]}), source / "d.parquet")
    job, count = run(tiny_encoder, source, tmp_path / "out")
    assert (count, job.rows) == (1, 53)


_SCRIPT = """
from pathlib import Path
from tests.distributed.test_folder import run
from echo_embeddings import EchoEncoder, EncoderOptions
encoder = EchoEncoder(
    model={model!r}, config="echo", device="cpu", dtype="float32", max_length=64, on_truncate="ignore"
)
run(encoder, Path({source!r}), Path({target!r}), skip=True)
"""


def test_what_a_run_leaves_that_is_killed_at_any_moment_is_gone_on_with(tmp_path, tiny_folder, tiny_encoder):
    source, target = tmp_path / "in", tmp_path / "work" / "out"
    source.mkdir()
    pq.write_table(pa.table({"text": ["one", None, "three"]}), source / "a.parquet")
    pq.write_table(pa.table({"text": ["four"]}), source / "b.parquet")
    run(tiny_encoder, source, tmp_path / "whole", skip=True)
    script = _SCRIPT.format(model=str(tiny_folder), source=str(source), target=str(target))
    moments = killing.moments(script, tmp_path / "work", tmp_path / "moments")
    assert len(moments) > 10
    for moment in moments[1::3]:
        for path in (moment / "out").rglob("*.parquet"):
            assert pq.read_table(path).num_rows in (1, 2)  # what has its name is whole
        run(tiny_encoder, source, moment / "out", skip=True)
        assert bytes_of(moment / "out") == bytes_of(tmp_path / "whole")


def test_another_model_config_or_column_is_refused(source, tmp_path, tiny_encoder, tiny_options):
    target = tmp_path / "out"
    run(tiny_encoder, source, target, at_most=1)
    before = bytes_of(target)
    others = {
        "--role changed since": {"role": "query"},
        "--checkpoint-rows changed since": {"rows": 16},
    }
    for said, options in others.items():
        with pytest.raises(InputError, match=f"out holds vectors of another job: {said}. Run it as before to go on"):
            run(tiny_encoder, source, target, **options)
    config = EchoEncoder.from_options(tiny_options.replace(config="classical"))
    with pytest.raises(InputError, match=r"the configuration \(--config, --max-length\) changed since"):
        run(config, source, target)
    strict = EchoEncoder.from_options(tiny_options.replace(on_truncate="error"))
    with pytest.raises(InputError, match="on_truncate was 'truncate' and is 'error'"):
        run(strict, source, target)
    assert bytes_of(target) == before
    assert run(tiny_encoder, source, target)[1] == 3


def test_restart_begins_anew(source, tmp_path, tiny_encoder):
    run(tiny_encoder, source, tmp_path / "out")
    assert run(tiny_encoder, source, tmp_path / "out", restart=True, rows=16)[1] == 6
    assert len(rows_of(tmp_path / "out")) == 52


def test_a_run_that_saved_nothing_is_forgotten(source, tmp_path, tiny_encoder):
    run(tiny_encoder, source, tmp_path / "out", at_most=0)
    run(tiny_encoder, source, tmp_path / "out", role="query")


def test_input_that_changed_or_is_gone_is_refused(source, tmp_path, tiny_encoder):
    run(tiny_encoder, source, tmp_path / "out")
    pq.write_table(pa.table({"text": ["one", "twice"], "tags": [["x"], []]}), source / "sub" / "b.parquet")
    with pytest.raises(InputError, match=r"sub/b.parquet: the file changed since vectors of it were written to .*out"):
        run(tiny_encoder, source, tmp_path / "out")
    (source / "sub" / "b.parquet").unlink()
    with pytest.raises(InputError, match=r"was made from rows 1 to 2 of sub/b.parquet, and .*in has no such file any"):
        run(tiny_encoder, source, tmp_path / "out")
    (tmp_path / "out" / "sub" / "b.parquet").unlink()
    run(tiny_encoder, source, tmp_path / "out")


def test_a_file_that_changes_while_the_job_runs_is_noticed(source, tmp_path, tiny_encoder):
    work = work_of(tiny_encoder, source, tmp_path / "out")
    job = opened(work)
    pq.write_table(pa.table({"text": ["one"]}), source / "sub" / "b.parquet")
    with pytest.raises(InputError, match=r"sub/b.parquet: the file changed while the job ran; run the same again"):
        embed_fragment(work, job.fragments[-1], tiny_encoder)
    with pytest.raises(InputError, match=r"sub/b.parquet: the file changed while the job ran, and its vectors may"):
        job.require_same_input()


def test_what_others_wrote_is_left_alone(source, tmp_path, tiny_encoder):
    (tmp_path / "out").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "out" / "a.parquet")
    for restart in (False, True):
        with pytest.raises(InputError, match=r"out/a.parquet was not made by embed; move it away or choose another"):
            run(tiny_encoder, source, tmp_path / "out", restart=restart)
    assert pq.read_table(tmp_path / "out" / "a.parquet").column_names == ["a"]


def test_an_output_that_was_damaged_is_made_again(source, tmp_path, tiny_encoder):
    run(tiny_encoder, source, tmp_path / "out")
    whole = bytes_of(tmp_path / "out")
    (tmp_path / "out" / "c.parquet").write_bytes(b"PAR1 and no more")
    assert run(tiny_encoder, source, tmp_path / "out")[1] == 1
    assert bytes_of(tmp_path / "out") == whole


@pytest.fixture
def bad_rows(tmp_path) -> Path:
    """1,034 rows, more than are embedded together; three of the last cannot be embedded."""
    (tmp_path / "bad").mkdir()
    texts = [*[str(n).encode() for n in range(1030)], None, b"\xff\xfe", b"word " * 200, b"last"]
    column = pa.array(texts, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": range(1034), "text": column}), tmp_path / "bad" / "a.parquet")
    return tmp_path / "bad"


def test_a_row_that_cannot_be_embedded_is_named(bad_rows, tmp_path, tiny_encoder):
    with pytest.raises(InputError, match=r"bad/a.parquet, row 1031: 'text' is null; drop the row or give it a text"):
        run(tiny_encoder, bad_rows, tmp_path / "out", rows=2048)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_rows_that_cannot_be_embedded_can_be_skipped(bad_rows, tmp_path, tiny_options):
    encoder = EchoEncoder.from_options(tiny_options.replace(on_truncate="error"))
    job, _ = run(encoder, bad_rows, tmp_path / "out", skip=True, rows=2048)
    assert (job.rows, job.skipped) == (1031, 3)
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    assert table["id"].to_pylist() == [*range(1030), 1033]
    expected = encoder.encode_documents([*map(str, range(1024, 1030)), "last"])
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy())[1024:], expected, atol=1e-6)
    skipped = [json.loads(line) for line in (tmp_path / "out" / SKIPPED).read_text().splitlines()]
    assert [(one["file"], one["row"]) for one in skipped] == [("a.parquet", row) for row in (1031, 1032, 1033)]
    assert "is null" in skipped[0]["error"]
    assert "this text is not UTF-8" in skipped[1]["error"]
    assert "the text has" in skipped[2]["error"]
    assert "and 64 are read: 'word word" in skipped[2]["error"]


def test_a_text_that_is_too_long_is_named(tmp_path, tiny_options):
    encoder = EchoEncoder.from_options(tiny_options.replace(on_truncate="error"))
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["a", "word " * 200]}), tmp_path / "in" / "a.parquet")
    with pytest.raises(InputError, match=r"in/a.parquet, row 2: the text has \d+ tokens, and 64 are read: 'word word"):
        run(encoder, tmp_path / "in", tmp_path / "out")


class Broken:
    """An encoder that gives NaN for some texts."""

    def __init__(self, encoder):
        self._encoder = encoder

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_documents(self, texts):
        if bad := [text for text in texts if "9" in text]:
            raise NumericalError(f"the model gave NaN for {len(bad)} of {len(texts)} texts")
        return self._encoder.encode_documents(texts)


def test_rows_with_nan_are_found(tmp_path, tiny_encoder):
    (tmp_path / "in").mkdir()
    texts = [str(number) for number in range(30)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "in" / "a.parquet")
    broken = Broken(tiny_encoder)
    with pytest.raises(NumericalError, match=r"in/a.parquet, row 10: the model gave NaN for 1 of 1 texts"):
        run(broken, tmp_path / "in", tmp_path / "out")
    job, _ = run(broken, tmp_path / "in", tmp_path / "out", skip=True)
    assert (job.rows, job.skipped) == (27, 3)
    assert [row["text"] for row in rows_of(tmp_path / "out")] == [text for text in texts if "9" not in text]


@pytest.mark.parametrize(("first", "rows"), [(0, 25), (0, 1), (7, 1), (9, 12), (20, 5), (24, 1), (3, 22)])
def test_a_fragment_is_just_its_rows(tmp_path, first, rows):
    pq.write_table(pa.table({"n": range(25)}), tmp_path / "a.parquet", row_group_size=7)
    fragment = Fragment(InputFile("a.parquet", 25, 1, ""), first, rows, "a.parquet")
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        tables = list(fragment.tables(file, 4))
    assert [n for table in tables for n in table["n"].to_pylist()] == list(range(first, first + rows))
    assert all(table.num_rows == 4 for table in tables[:-1])


def test_two_files_that_would_become_one(tmp_path):
    files = [InputFile("a.parquet", 3, 1, ""), InputFile("a-00000-of-00002.parquet", 1, 1, "")]
    with pytest.raises(InputError, match=r"two files of the input would become a-00000-of-00002.parquet; rename one"):
        fragments_of(files, 2)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"body": ["a"]}), r"in/a.parquet.*no column 'text'"),
        (pa.table({"text": [1]}), "column 'text' holds int64, not texts"),
        (pa.table({"text": ["a"], "embedding": [1]}), "there is a column 'embedding' already"),
        (pa.table({"text": pa.array([], pa.string())}), "in has no rows: there is nothing to embed"),
        (None, "in holds no .parquet files; give a folder of them, or one of them"),
    ],
)
def test_input_that_cannot_be_used(tmp_path, table, said):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "in" / "_hidden.parquet")
    if table is not None:
        pq.write_table(table, tmp_path / "in" / "a.parquet")
    with pytest.raises(InputError, match=said):
        input_files(place_of(tmp_path / "in"), "text", Bounds())


def test_a_file_system_that_is_not_local(source, tmp_path, tiny_encoder):
    """Files are written and moved by pyarrow; the outputs are the same."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    there = Place("s3://bucket", fs.SubTreeFileSystem(str(tmp_path / "there"), fs.LocalFileSystem()), "out")
    assert there.local is None
    run(tiny_encoder, source, tmp_path / "here" / "out")
    run(tiny_encoder, source, there, at_most=2)
    assert run(tiny_encoder, source, there)[1] == 2
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")
    writing = there.writing("x.parquet")
    writing.__enter__().write(b"half")
    writing.__exit__(RuntimeError, RuntimeError("stop"), None)
    assert not (tmp_path / "there" / "out" / "x.parquet").exists()
    assert not list((tmp_path / "there" / "out" / "_echo_embeddings" / "unfinished").iterdir())


def test_addresses(tmp_path):
    assert place_of(f"file://{tmp_path}").local == tmp_path
    with pytest.raises(InputError, match=r"nowhere://x cannot be reached .*; give a folder, or an address such as s3"):
        place_of("nowhere://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file; give a folder"):
        place_of(tmp_path / "file")


def test_a_worker_that_would_make_other_vectors_is_refused(source, tmp_path, tiny_encoder, tiny_options):
    """Such as a node whose processor computes in another dtype."""
    work = work_of(tiny_encoder, source, tmp_path / "out")
    other = EchoEncoder.from_options(tiny_options.replace(dtype="bfloat16"))
    with pytest.raises(InputError, match=r"make other vectors than the job began with: computed_in 'cpu .*bfloat16"):
        embed_fragment(work, opened(work).fragments[0], other)


def test_a_worker_that_does_not_find_the_input(source, tmp_path, tiny_encoder):
    work = work_of(tiny_encoder, source, tmp_path / "out")
    fragment = opened(work).fragments[0]
    (source / "a.parquet").unlink()
    with pytest.raises(InputError, match=r"a.parquet cannot be read by a worker .*Every node must find it there: use"):
        embed_fragment(work, fragment, tiny_encoder)


def test_a_full_disk_is_said(source, tmp_path, tiny_encoder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("echo_embeddings.distributed.folder.write_parquet", full)
    work = work_of(tiny_encoder, source, tmp_path / "out")
    with pytest.raises(OutputError, match="No space left on device; what is finished is kept: make room and run"):
        embed_fragment(work, opened(work).fragments[0], tiny_encoder)
