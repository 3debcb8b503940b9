"""An index whose files were damaged, lost, or exchanged for another's: the right passages, or one error. No model."""

import json
import os
import shutil
from dataclasses import replace

import faiss
import numpy as np
import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.errors import EchoError, InputError
from echo_embeddings.search import Hit, Index, Passage
from echo_embeddings.vectors.transforms import Standardize
from tests.search.fake import PASSAGES, FakeEncoder

FILES = [
    "manifest.json",
    "passages.jsonl",
    "index.faiss",
    "files.jsonl",
    "echo_config.json",
    "echo_transforms.safetensors",
]
FOUND = [Hit(1, pytest.approx(0.8), "b.md:1", "Tides."), Hit(2, pytest.approx(0.6), "a.md:1", "Ferries.")]


class Encoder(FakeEncoder):
    """Has a fitted config, so that all six files are there."""

    def __init__(self, mean=0.0):
        super().__init__()
        transform = Standardize(np.full(3, mean, np.float32), np.ones(3, np.float32))
        self.config = replace(EchoConfig.preset("echo"), transforms=(transform,))


def search(folder):
    return Index.load(folder, Encoder()).search("boats and the moon", k=2)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "index"
    index = Index.build(PASSAGES, Encoder())
    index.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """An index of as many passages, of another order and with another config."""
    folder = tmp_path_factory.mktemp("other") / "index"
    Index.build([Passage(p.source, p.text) for p in reversed(PASSAGES)], Encoder(mean=0.5)).save(folder)
    return folder


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_folder(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


def to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def flipped(place):
    def flip(path):
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1 << np.random.default_rng(int(place * 100)).integers(8)
        path.write_bytes(content)

    flip.__name__ = f"flipped at {place}"
    return flip


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def doubled(path):
    path.write_bytes(path.read_bytes() * 2)


def empty(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def nested(path):
    path.write_bytes(b"[" * 200_000)


DAMAGES = [removed, empty, half, doubled, zeros, nested, pipe, a_folder, dangling, to_itself]
DAMAGES += [flipped(place) for place in (0, 0.2, 0.35, 0.5, 0.65, 0.8, 1)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_named_or_does_no_harm(original, tmp_path, damage, name):
    folder = tmp_path / "index"
    shutil.copytree(original, folder)
    damage(folder / name)
    try:
        outcome = search(folder)
    except EchoError as error:
        outcome = str(error)
    if isinstance(outcome, str):
        assert str(folder) in outcome
        assert name in outcome or "manifest.json" in outcome or name == "manifest.json"
        assert "\n" not in outcome
    else:
        assert outcome == FOUND


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_index_is_named(original, other, tmp_path, name):
    folder = tmp_path / "index"
    shutil.copytree(original, folder)
    shutil.copy(other / name, folder)
    if (folder / name).read_bytes() == (original / name).read_bytes():
        assert search(folder) == FOUND
        return
    with pytest.raises(InputError, match=r"index: its echo_config\.json|do not belong together"):
        search(folder)


def swapped_lines(folder):
    lines = (folder / "passages.jsonl").read_text().splitlines(keepends=True)
    (folder / "passages.jsonl").write_text("".join(reversed(lines)))


def swapped_vectors(folder):
    rewrite(folder, faiss.IndexFlatIP(3), np.eye(3, dtype=np.float32)[::-1])


def rewrite(folder, index, vectors):
    index.add(np.ascontiguousarray(vectors))
    faiss.write_index(index, str(folder / "index.faiss"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (swapped_lines, r"passages\.jsonl and manifest\.json do not belong together: one was damaged, was changed"),
        (swapped_vectors, r"index\.faiss and manifest\.json do not belong together"),
        (
            lambda f: rewrite(f, faiss.IndexFlatIP(3), np.eye(4, 3, dtype=np.float32)),
            r"index\.faiss has 4 vectors of 3 dimensions, but manifest\.json says 3 of 3",
        ),
        (lambda f: rewrite(f, faiss.IndexFlatL2(3), np.eye(3, dtype=np.float32)), r"index\.faiss measures distances"),
    ],
)
def test_parts_that_would_give_wrong_passages(original, tmp_path, damage, message):
    folder = tmp_path / "index"
    shutil.copytree(original, folder)
    damage(folder)
    with pytest.raises(InputError, match=message + r".*make the index again"):
        search(folder)


def test_distances_are_no_cosines_even_where_the_manifest_knows_the_file(tmp_path):
    index = Index.build(PASSAGES, FakeEncoder())
    index._faiss = faiss.IndexFlatL2(3)
    index._faiss.add(np.eye(3, dtype=np.float32))
    index.save(tmp_path / "index")
    with pytest.raises(InputError, match=r"index\.faiss measures distances \(L2\), not cosines; make the index again"):
        Index.load(tmp_path / "index")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metric", "l2"),
        ("weights", 5),
        ("digests", []),
        ("digests", {}),
        ("passages", True),
        ("passages", -3),
        ("dimension", 10**30),
        ("kind", ["exact"]),
        ("kind", "hnsw"),
    ],
)
def test_a_manifest_that_makes_no_sense(original, tmp_path, field, value):
    folder = tmp_path / "index"
    shutil.copytree(original, folder)
    content = json.loads((folder / "manifest.json").read_text()) | {field: value}
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"manifest\.json.*make the index again"):
        search(folder)
