"""A process that is killed while it saves or updates an index, and a reader beside a writer. No model."""

import multiprocessing
import shutil
import signal

import pytest

from echo_embeddings.search import Index
from tests import killing
from tests.search.fake import PASSAGES, FakeEncoder

UPDATE = """
from pathlib import Path
from echo_embeddings.search import Index
from tests.search.fake import FakeEncoder
root = Path({root!r})
index = Index.load(root / "index", FakeEncoder())
index.update(root.parent / "notes")
index.save(root / "index")
"""


@pytest.fixture
def notes(tmp_path):
    """A folder of which the index has one file, and a second one that is new."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("Ferries.")
    return folder


def sources(folder):
    index = Index.load(folder, FakeEncoder())
    for passage in index._passages:
        assert index.search(passage.text, k=1)[0].passage == passage.text
    return [passage.source for passage in index._passages]


OLD, NEW = ["a.txt:1"], ["a.txt:1", "b.txt:1"]


def updates(notes, tmp_path):
    """What stands at the index's place after a kill before each operation."""
    old, root = tmp_path / "old", tmp_path / "root"
    index = Index.empty(FakeEncoder())
    index.update(notes)
    index.save(old)
    (notes / "b.txt").write_text("Tides.")
    root.mkdir()
    shutil.copytree(old, root / "index")
    return old, root, UPDATE.format(root=str(root))


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize(("first", "every"), [(2, 5), pytest.param(1, 1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_an_update_that_is_killed_leaves_the_old_index_or_the_new_one(notes, tmp_path, kill, first, every):
    old, root, script = updates(notes, tmp_path)
    seen = []
    for _ in killing.at_each(script, root, kill, first, every):
        seen.append(sources(root / "index"))
        assert seen[-1] in (OLD, NEW)
        shutil.rmtree(root / "index")  # but not what the killed process left beside it
        shutil.copytree(old, root / "index")
    assert seen[0] == OLD
    assert seen[-1] == NEW
    assert killing.run(script, root).returncode == 0
    assert [path.name for path in root.iterdir()] == ["index"]
    assert sources(root / "index") == NEW


def write(folder):
    first, second = (Index.build(part, FakeEncoder()) for part in (PASSAGES[:2], PASSAGES[2:] + PASSAGES[:1]))
    for _ in range(40):
        first.save(folder)
        second.save(folder)


def test_a_reader_beside_a_writer_sees_one_whole_index(tmp_path):
    folder = tmp_path / "index"
    Index.build(PASSAGES[:2], FakeEncoder()).save(folder)
    seen = [tuple(sources(folder))]
    writer = multiprocessing.get_context("spawn").Process(target=write, args=(folder,))
    writer.start()
    while writer.is_alive():
        seen.append(tuple(sources(folder)))
    writer.join()
    seen.append(tuple(sources(folder)))
    assert writer.exitcode == 0
    assert set(seen) == {("a.md:1", "a.md:3"), ("b.md:1", "a.md:1")}
