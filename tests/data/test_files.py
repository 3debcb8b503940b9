"""Files and folders that are there whole or not at all, and outputs that are refused. No model."""

import pytest

from echo_embeddings.data.files import require_target, whole_file, whole_folder
from echo_embeddings.errors import InputError


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
