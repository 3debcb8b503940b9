"""Files and folders that are there whole or not at all, and outputs that are refused. No model."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from echo_embeddings.data import files
from echo_embeddings.data.files import current, locked, require_target, whole_file, whole_folder
from echo_embeddings.errors import InputError
from tests import killing


def fail(where):
    (where / "half" if where.is_dir() else where).write_text("half")
    raise KeyboardInterrupt


def test_an_interrupted_file_leaves_nothing_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "out.npy"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as unfinished:
        fail(unfinished)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out.npy", "old")]


def test_an_interrupted_folder_leaves_nothing_and_keeps_the_old_one(tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "old").touch()
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "index") as unfinished:
        fail(unfinished)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["index", "index/old"]


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    source, old = tmp_path / "in.npy", tmp_path / "old.npy"
    source.touch()
    old.touch()
    refused = {
        tmp_path / "out.csv": r"the suffix '\.csv' is unknown; write to \.npy",
        tmp_path / "no" / "out.npy": "there is no folder .*no; make it first",
        old: "exists; add --restart to compute it anew, or choose another output",
        source: "is the input; choose another output",
    }
    for target, message in refused.items():
        with pytest.raises(InputError, match=message):
            require_target(source, target, (".npy",), overwrite=False)
    require_target(source, old, (".npy",), overwrite=True)
    require_target(None, source, (".npy",), overwrite=True)


REPLACE = """
from pathlib import Path
from echo_embeddings.data import files
if {no_exchange}:
    files._exchange = lambda a, b: False
with files.whole_folder(Path({path!r}), keep=lambda inner: inner.name == "mine") as work:
    for name in "abc":
        (work / name).write_text("new")
"""


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("no_exchange", [False, True])
def test_a_folder_is_the_old_or_the_new_one_wherever_its_writer_is_killed(tmp_path, kill, no_exchange):
    if not no_exchange and files._system_exchange() is None:
        pytest.skip("this system cannot swap two names in one step")
    root = tmp_path / "root"
    path = root / "folder"
    script = REPLACE.format(path=str(path), no_exchange=no_exchange)

    def old_one():
        shutil.rmtree(root, ignore_errors=True)
        path.mkdir(parents=True)
        for name in ("a", "b", "mine"):
            (path / name).write_text("old")

    old_one()
    contents = set()
    for _ in killing.at_each(script, root, kill):
        read = current(path) if no_exchange else path
        found = {file.name: file.read_text() for file in read.iterdir()}
        assert found in (
            {"a": "old", "b": "old", "mine": "old"},
            {"a": "new", "b": "new", "c": "new", "mine": "old"},
        )
        contents.add(found["a"])
        with whole_folder(path) as work:  # the next writer sweeps what the killed one left
            (work / "a").write_text("next")
        assert [file.relative_to(root).as_posix() for file in sorted(root.rglob("*"))] == ["folder", "folder/a"]
        old_one()
    assert contents == {"old", "new"}


@pytest.mark.parametrize("name", ["file", "folder"])
def test_what_a_library_wrote_for_its_owner_only_gets_the_mode_of_the_umask(tmp_path, name):
    mask = os.umask(0o027)
    try:
        if name == "file":
            with whole_file(tmp_path / name) as path:
                path.unlink()
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            modes = [tmp_path / name]
        else:
            with whole_folder(tmp_path / name) as work:
                os.close(os.open(work / "weights", os.O_WRONLY | os.O_CREAT, 0o600))
            modes = [tmp_path / name / "weights"]
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(mask)
    assert [path.stat().st_mode & 0o777 for path in modes] == [0o640]


@pytest.mark.parametrize("name", ["gone/x.html", "x" * 250])
def test_an_error_names_the_file_that_is_to_be(tmp_path, name):
    with pytest.raises(OSError) as error, whole_file(tmp_path / name):  # noqa: PT011 - the test is its file name
        raise AssertionError
    assert error.value.filename == str(tmp_path / name)


def test_a_link_is_written_through(tmp_path):
    for kind in ("file", "folder"):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        link = tmp_path / kind
        link.symlink_to(tmp_path / "elsewhere" / kind)
    with whole_file(tmp_path / "file") as path:
        path.write_text("content")
    with whole_folder(tmp_path / "folder") as work:
        (work / "a").write_text("content")
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == "content"
    assert (tmp_path / "elsewhere" / "folder" / "a").read_text() == "content"


def test_a_second_writer_is_refused_or_waits(tmp_path):
    path = tmp_path / "out"
    script = f"""
import sys, time
from pathlib import Path
from echo_embeddings.data.files import locked
with locked(Path({str(path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=killing.ROOT) as other:
        assert other.stdout.readline() == "held\n"
        message = rf"out is being written by process {other.pid} on .*, since .*; wait"
        with pytest.raises(InputError, match=message), whole_folder(path):
            pass
        other.kill()  # the lock ends with the process, and what it left does not hinder
        other.wait()
    started = time.monotonic()
    with locked(path, wait=True), pytest.raises(InputError, match=f"process {os.getpid()}"), locked(path):
        pass
    assert time.monotonic() - started < 30
    assert list(tmp_path.iterdir()) == []
