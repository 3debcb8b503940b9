"""Kinds of index and their precisions: what is found, saved, updated and refused."""

import json

import numpy as np
import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.errors import InputError
from echo_embeddings.search import Index
from echo_embeddings.search.vectors import Bits, add, empty, empty_like
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.precision import turned

DIMENSION = 36  # no multiple of 8
KINDS = [
    (kind, precision)
    for kind in ("exact", "hnsw")
    for precision in ("float32", "float16", "int8", "ubinary")
    if (kind, precision) != ("hnsw", "ubinary")
]


class Encoder:
    """A text's vector is drawn with its number as the seed."""

    dimension, model_name = DIMENSION, "some/model"

    def __init__(self, precision="float32"):
        self.config, self.precision = EchoConfig.preset("echo"), precision

    def with_precision(self, precision):
        return Encoder(precision)

    def encode_documents(self, texts, *, show_progress=lambda _: None):
        if isinstance(texts, str):
            return self.encode_documents([texts])[0]
        assert self.precision == "float32"
        show_progress(len(texts))
        drawn = [np.random.default_rng(int(text)).normal(size=DIMENSION) for text in texts]
        return unit(np.array(drawn, dtype=np.float32))

    encode_queries = encode_documents


PASSAGES = [str(number) for number in range(300)]


@pytest.mark.parametrize(("kind", "precision"), KINDS)
def test_found_saved_and_found_again(kind, precision, tmp_path):
    index = Index.build(PASSAGES, Encoder(), kind=kind, precision=precision)
    best = [hits[0] for hits in index.search(["7", "250"], k=3)]
    assert [hit.passage for hit in best] == ["7", "250"]
    assert best[0].score == pytest.approx(1, abs=0.25 if precision == "ubinary" else 0.01)
    index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index", Encoder())
    assert again.manifest.precision == precision
    assert again.search(["7", "250"], k=3) == index.search(["7", "250"], k=3)
    with_more = again
    with_more.add(["1000"])
    assert with_more.search("1000", k=1)[0].passage == "1000"
    assert len(index.search("7", k=1000)) == 300


def test_sizes_on_disk(tmp_path):
    sizes = {}
    for precision in ("float32", "float16", "int8", "ubinary"):
        Index.build(PASSAGES, Encoder(), precision=precision).save(tmp_path / precision)
        sizes[precision] = (tmp_path / precision / "index.faiss").stat().st_size
    assert sizes["float32"] > 300 * 36 * 4 > sizes["float16"] > 300 * 36 * 2 > sizes["int8"] > 300 * 36
    assert sizes["ubinary"] < 300 * 5 + 100


def test_the_precision_of_the_encoder_is_taken():
    index = Index.build(PASSAGES[:5], Encoder("ubinary"))
    assert index.manifest.precision == "ubinary"
    assert index.encoder.precision == "float32"  # questions keep their numbers
    assert Index.build(PASSAGES[:5], Encoder("ubinary"), precision="int8").manifest.precision == "int8"


@pytest.mark.parametrize(("kind", "precision"), KINDS)
def test_an_update_keeps_vectors_bit_by_bit(kind, precision, tmp_path, monkeypatch):
    monkeypatch.setattr("echo_embeddings.search.vectors.FITTED_ON", 5)  # below, those of int8 move with their ranges
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(str(number))
    index = Index.empty(Encoder(), kind=kind, precision=precision)
    index.update(tmp_path)
    before = index._faiss.reconstruct_n(0, 6)
    (tmp_path / "0.txt").unlink()
    (tmp_path / "9.txt").write_text("9")
    update = index.update(tmp_path)
    assert (update.new, update.removed, update.unchanged) == (["9.txt"], ["0.txt"], 5)
    np.testing.assert_array_equal(index._faiss.reconstruct_n(0, 5), before[1:])
    (tmp_path / "10.txt").write_text("10")
    index.update(tmp_path)
    np.testing.assert_array_equal(index._faiss.reconstruct_n(0, 5), before[1:])
    assert [index.search(text, k=1)[0].passage for text in ("10", "9", "3")] == ["10", "9", "3"]


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_int8_ranges_are_not_those_of_the_first_passage_alone(kind):
    """They are fitted on the first 1,024 vectors, however few are added at once."""
    index = Index.empty(Encoder(), kind=kind, precision="int8")
    for count in (1, 2, 5, 40, 252):
        index.add(PASSAGES[len(index) : len(index) + count])
    vectors = Encoder().encode_documents(PASSAGES)
    kept = index._faiss.reconstruct_n(0, 300)
    assert (unit(kept) * vectors).sum(axis=1).min() > 0.999
    assert [hits[0].passage for hits in index.search(["0", "1", "250"], k=1)] == ["0", "1", "250"]


def test_int8_ranges_stay_when_enough_vectors_are_there(monkeypatch):
    monkeypatch.setattr("echo_embeddings.search.vectors.FITTED_ON", 100)
    index = Index.build(PASSAGES[:100], Encoder(), precision="int8")
    codes, before = index._faiss.reconstruct_n(0, 100), index._faiss
    index.add(PASSAGES[100:])
    assert index._faiss is before
    np.testing.assert_array_equal(index._faiss.reconstruct_n(0, 100), codes)


def test_int8_takes_the_ranges_of_the_config():
    ranges = np.stack([np.full(DIMENSION, -1, np.float32), np.full(DIMENSION, 1, np.float32)])
    index = empty("exact", DIMENSION, "int8", ranges)
    add(index, np.full((1, DIMENSION), 0.5, np.float32), "exact", "int8", keeps_ranges=True)
    np.testing.assert_allclose(index.reconstruct(0), 0.5, atol=1 / 255)
    other = empty_like(index, "exact", "int8")
    assert add(other, np.full((1, DIMENSION), 5, np.float32), "exact", "int8", keeps_ranges=True) is other  # far beyond
    np.testing.assert_allclose(other.reconstruct(0), 1, atol=2 / 255)


def test_bits_are_found_and_put_in_order_by_the_question():
    signs = np.array([[1, 1, 1], [1, 1, -1], [-1, -1, -1]], np.float32)
    bits = Bits(3)
    bits.add(turned(signs, back=True))  # an index takes the bits of turned vectors
    scores, rows = bits.search(turned(np.array([[0.9, 0.1, -0.4]], np.float32), back=True), 2)
    assert rows.tolist() == [[1, 0]]
    np.testing.assert_allclose(scores, [[1.4 / 3**0.5, 0.6 / 3**0.5]], rtol=1e-5)
    np.testing.assert_allclose(bits.reconstruct(1), turned(signs[1], back=True) / 3**0.5, atol=1e-6)
    assert Bits(3).reconstruct_n(0, 0).shape == (0, 3)


def test_what_does_not_go_together():
    with pytest.raises(InputError, match="precision='ubinary' has no graph: .* choose int8 or float16 for kind='hnsw'"):
        Index.build(PASSAGES[:3], Encoder(), kind="hnsw", precision="ubinary")
    with pytest.raises(InputError, match=r"precision='int4' is unknown; choose one of: float32 \(four bytes"):
        Index.empty(Encoder(), precision="int4")


@pytest.mark.parametrize(("was", "says"), [("int8", "float32"), ("ubinary", "int8"), ("float32", "ubinary")])
def test_a_manifest_that_says_another_precision(was, says, tmp_path):
    Index.build(PASSAGES[:9], Encoder(), precision=was).save(tmp_path / "index")
    manifest = tmp_path / "index" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"precision": says}))
    with pytest.raises(InputError, match=r"index\.faiss.* make the index again"):
        Index.load(tmp_path / "index")
