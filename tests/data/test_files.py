"""Files that are there whole or not at all; windows of vectors; the index on disk. No model."""

import dataclasses
import json

import numpy as np
import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.data.checkpoints import Shards
from echo_embeddings.data.files import whole_file, whole_folder
from echo_embeddings.data.passages import Passage
from echo_embeddings.errors import InputError
from echo_embeddings.search.index import Hit, Index, save_index

MANIFEST = {
    "input": "sha",
    "column": "text",
    "role": "document",
    "model": "m",
    "config": "c",
    "precision": "cpu torch.float32",
    "window": 4,
    "version": "0",
}
VECTORS = np.eye(3, dtype=np.float32)
PASSAGES = [Passage("a.md:1", "Ferries."), Passage("a.md:3", "Bread."), Passage("b.md:1", "Tides.")]


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


def test_rows_are_read_across_windows(tmp_path):
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    shards = Shards.open(tmp_path / "p", MANIFEST, rows=10, restart=False)
    for number in (0, 2):
        shards.save(number, rows[4 * number : 4 * number + 4])
    assert (shards.count, shards.rows_saved, shards.has(1)) == (3, 6, False)
    shards.save(1, rows[4:8])
    for start, stop in [(0, 10), (3, 5), (4, 8), (9, 10)]:
        np.testing.assert_array_equal(shards.read(start, stop), rows[start:stop])
    assert shards.dimension == 2


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("input", "the input's content"),
        ("model", "--model"),
        ("config", r"the configuration \(--config, --max-length\)"),
    ],
)
def test_an_unfinished_run_of_something_else_is_not_mixed_in(tmp_path, key, named):
    Shards.open(tmp_path / "p", MANIFEST, rows=10, restart=False)
    other = MANIFEST | {key: "other"}
    message = f"holds an unfinished run of something else: {named} changed since.*add --restart to begin anew"
    with pytest.raises(InputError, match=message):
        Shards.open(tmp_path / "p", other, rows=10, restart=False)
    Shards.open(tmp_path / "p", other, rows=10, restart=True)


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is in the way and was not made by embed"):
        Shards.open(tmp_path / "p", MANIFEST, rows=10, restart=False)


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "index"
    save_index(folder, PASSAGES, [VECTORS[:2], VECTORS[2:]], EchoConfig.preset("echo"), (None, "model"))
    return folder


def test_an_index_finds_its_passages(index):
    opened = Index.open(index)
    assert opened.search(np.array([0.6, 0, 0.8], np.float32), k=2) == [
        Hit(1, pytest.approx(0.8), "b.md:1", "Tides."),
        Hit(2, pytest.approx(0.6), "a.md:1", "Ferries."),
    ]
    assert opened.config == EchoConfig.preset("echo")
    assert len(opened.search(VECTORS[0], k=50)) == 3


def test_an_index_is_replaced_whole(index):
    save_index(index, PASSAGES[:1], [VECTORS[:1]], EchoConfig.preset("echo"), (None, "model"))
    assert [hit.source for hit in Index.open(index).search(VECTORS[0], 5)] == ["a.md:1"]
    assert [path.name for path in index.parent.iterdir()] == ["index"]


def test_what_is_no_index_is_not_written_over(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="exists and is not an index; choose another place"):
        save_index(tmp_path, PASSAGES, [VECTORS], EchoConfig.preset("echo"), (None, "model"))


def test_an_index_whose_config_was_changed(index):
    EchoConfig.preset("classical").save(index)
    with pytest.raises(
        InputError,
        match=r"its echo_config\.json, or the packaged adapter that .* not the one it was made with; make the",
    ):
        Index.open(index)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"its manifest\.json cannot be read"),
        ('{"format": 99}', "was made by a newer echo-embeddings; run pip install -U echo-embeddings"),
        ('{"format": 1, "what": 2}', r"its manifest\.json cannot be read"),
    ],
)
def test_a_broken_manifest(index, content, message):
    (index / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Index.open(index)


def test_a_folder_that_is_no_index(tmp_path):
    with pytest.raises(InputError, match="is not an index; make one with: echo-embeddings index FOLDER"):
        Index.open(tmp_path)


def test_the_manifest_says_what_the_index_was_made_with(index):
    manifest = json.loads((index / "manifest.json").read_text())
    assert manifest == dataclasses.asdict(Index.open(index).manifest)
    assert manifest["config"] == EchoConfig.preset("echo").fingerprint()
