"""The index on disk: replaced whole, and checked when it is read. No model."""

import dataclasses
import errno
import json
import threading

import numpy as np
import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.data.files import locked
from echo_embeddings.errors import InputError
from echo_embeddings.search import Index, Passage, storage
from echo_embeddings.search.storage import Manifest, _write_vectors
from tests.search.fake import PASSAGES, FakeEncoder


@pytest.fixture
def saved(tmp_path):
    Index.build(PASSAGES, FakeEncoder()).save(tmp_path / "index")
    return tmp_path / "index"


def test_an_index_is_replaced_whole(saved):
    Index.build(PASSAGES[:1], FakeEncoder()).save(saved)
    assert [hit.source for hit in Index.load(saved).search(np.eye(3, dtype=np.float32)[0])] == ["a.md:1"]
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


def test_what_is_no_index_is_not_written_over(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="exists and is not an index; choose another place"):
        Index.build(PASSAGES, FakeEncoder()).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"manifest.json": '{"name": "a web page"}', "page.html": ""}, "exists and is not an index"),
        ({"manifest.json": '{"name": "a web page"}'}, "exists and is not an index"),
        ({"echo_config.json": "{}"}, "exists and is not an index"),
        ({"index.faiss": "", "notes.txt": ""}, "holds 'notes.txt', which is no part of an index and would be lost"),
    ],
)
def test_a_strangers_folder_is_not_written_over(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message + "; choose another place" if "holds" in message else message):
        Index.build(PASSAGES, FakeEncoder()).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("lost", ["manifest.json", "index.faiss", "passages.jsonl"])
def test_a_damaged_index_can_be_made_again(saved, lost):
    (saved / lost).unlink()
    (saved / ".DS_Store").touch()
    Index.build(PASSAGES, FakeEncoder()).save(saved)
    assert len(Index.load(saved)) == 3


def test_a_full_disk_is_said_with_the_place_and_the_old_index_stays(saved, monkeypatch):
    def full(vectors, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("echo_embeddings.search.storage._write_vectors", full)
    with pytest.raises(OSError, match="No space left on device: '.*index'"):
        Index.build(PASSAGES[:1], FakeEncoder()).save(saved)
    assert len(Index.load(saved)) == 3
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=type)
def test_an_error_while_vectors_are_written_is_that_error(error):
    class Disk:
        def write(self, content):
            raise error

    with pytest.raises(type(error)):
        _write_vectors(Index.build(PASSAGES, FakeEncoder())._faiss, Disk())


def test_a_second_writer_waits(saved):
    with locked(saved):
        thread = threading.Thread(target=Index.build(PASSAGES[:1], FakeEncoder()).save, args=(saved,))
        thread.start()
        thread.join(timeout=1)
        assert thread.is_alive()
        assert len(Index.load(saved)) == 3
    thread.join(timeout=30)
    assert len(Index.load(saved)) == 1


def test_an_index_that_is_replaced_while_it_is_read_is_read_again(saved, monkeypatch):
    """The vectors that are read are those of another index, whose passages have the same number."""
    read, other = storage._read_vectors, [Passage(p.source, p.text) for p in reversed(PASSAGES)]

    def read_slowly(folder, manifest):
        vectors = read(folder, manifest)
        if other:
            index = Index.build([*other], FakeEncoder())
            other.clear()
            index.save(saved)
        return vectors

    monkeypatch.setattr(storage, "_read_vectors", read_slowly)
    index = Index.load(saved)
    assert [passage.text for passage in index._passages] == ["Tides.", "Bread.", "Ferries."]
    assert index.search(np.eye(3, dtype=np.float32)[0], k=1)[0].passage == "Ferries."


def test_an_index_whose_config_was_changed(saved):
    EchoConfig.preset("classical").save(saved)
    with pytest.raises(
        InputError,
        match=r"its echo_config\.json, or the packaged adapter that .* not the one it was made with; make the",
    ):
        Index.load(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"its manifest\.json cannot be read"),
        ('{"format": 99}', "was made by a newer echo-embeddings; update it, from a newer checkout: "),
        ('{"format": 1, "what": 2}', r"its manifest\.json cannot be read"),
        ("[]", r"its manifest\.json cannot be read"),
    ],
)
def test_a_broken_manifest(saved, content, message):
    (saved / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Index.load(saved)


@pytest.mark.parametrize(
    ("field", "value"),
    [("passages", "3"), ("dimension", None), ("model", 5), ("config", 1), ("kind", "ivf"), ("format", "1")],
)
def test_a_manifest_with_a_field_of_another_type(saved, field, value):
    content = json.loads((saved / "manifest.json").read_text()) | {field: value}
    (saved / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"its manifest\.json cannot be read \({field}="):
        Index.load(saved)


def drop_a_line(folder):
    lines = (folder / "passages.jsonl").read_text().splitlines(keepends=True)
    (folder / "passages.jsonl").write_text("".join(lines[1:]))


def other_vectors(folder):
    import faiss

    index = faiss.IndexFlatIP(2)
    index.add(np.eye(2, dtype=np.float32))
    faiss.write_index(index, str(folder / "index.faiss"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_a_line, r"passages\.jsonl has 2 passages, but manifest\.json says 3; make the index again"),
        (other_vectors, r"index\.faiss has 2 vectors of 2 dimensions, but manifest\.json says 3 of 3; make the"),
        (lambda f: (f / "index.faiss").write_bytes(b"half"), r"index\.faiss cannot be read"),
        (lambda f: (f / "index.faiss").unlink(), r"index\.faiss cannot be read"),
        (lambda f: (f / "passages.jsonl").write_text("{\n"), r"passages\.jsonl:1 cannot be read"),
        (lambda f: (f / "passages.jsonl").write_text('{"a": 1}\n'), r"passages\.jsonl:1 cannot be read"),
        (lambda f: (f / "passages.jsonl").write_text("[" * 100_000), r"passages\.jsonl:1 cannot be read"),
        (lambda f: (f / "passages.jsonl").write_text('{"source": 1, "text": "a"}\n'), r"passages\.jsonl:1 cannot be"),
        (lambda f: (f / "passages.jsonl").write_bytes(b"\xff\n"), r"passages\.jsonl cannot be read"),
        (lambda f: (f / "passages.jsonl").unlink(), r"passages\.jsonl cannot be read"),
    ],
)
def test_files_that_are_damaged_or_disagree_are_named(saved, damage, message):
    damage(saved)
    with pytest.raises(InputError, match=message):
        Index.load(saved)


def test_a_folder_that_is_no_index(tmp_path):
    with pytest.raises(InputError, match="is not an index; make one with: echo-embeddings index FOLDER"):
        Index.load(tmp_path)


def test_the_manifest_says_what_the_index_was_made_with(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest == dataclasses.asdict(Index.load(saved).manifest)
    assert Manifest(**manifest) == Manifest(
        "some/model", "some/model", EchoConfig.preset("echo").fingerprint(), 3, 3, "exact"
    )
