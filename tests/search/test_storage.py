"""The index on disk: replaced whole, and checked when it is read. No model."""

import dataclasses
import json

import numpy as np
import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.errors import InputError
from echo_embeddings.search import Index
from echo_embeddings.search.storage import Manifest
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
        ('{"format": 99}', "was made by a newer echo-embeddings; run pip install -U echo-embeddings"),
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
