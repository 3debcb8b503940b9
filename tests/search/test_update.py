"""An index of files that follows them: what is embedded again, what is kept, what is dropped. No model."""

import json

import numpy as np
import pytest

from echo_embeddings import EchoConfig, EchoEncoder, embed_table
from echo_embeddings.errors import ConfigError, InputError
from echo_embeddings.search import Index, Update
from echo_embeddings.types import require_chunking
from tests.architectures import small_tokenizer, tiny
from tests.search.fake import FakeEncoder


class Encoder(FakeEncoder):
    """Notes what it embeds; a text's vector depends on its words alone."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.embedded = []

    def encode_documents(self, texts, *, show_progress=lambda _: None):
        self.embedded += texts
        return super().encode_documents(texts, show_progress=show_progress)

    @staticmethod
    def vector(text):
        vector = np.random.default_rng(list(text.encode())).normal(size=3).astype(np.float32)
        return vector / np.linalg.norm(vector)


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.md", "b.txt", "sub/c.md"):
        (folder / name).write_text(f"# Of {name}\n\n" + "Words of it. " * 150)
    (folder / "picture.png").touch()
    (folder / "LICENSE").touch()
    return folder


def require_like_new(index, notes):
    new = Index.empty(Encoder(), kind=index.manifest.kind)
    new.update(notes)
    assert sorted((p.source, p.text) for p in index._passages) == sorted((p.source, p.text) for p in new._passages)
    for row, passage in enumerate(index._passages):
        np.testing.assert_array_equal(index._faiss.reconstruct(row), Encoder.vector(passage.text))


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_only_new_and_changed_files_are_embedded(notes, tmp_path, kind):
    index = Index.empty(Encoder(), kind=kind)
    first = index.update(notes)
    assert first == Update(new=["a.md", "b.txt", "sub/c.md"], others={".png": 1, "": 1})
    index.save(tmp_path / "index")

    (notes / "a.md").write_text("Changed.")
    (notes / "b.txt").unlink()
    (notes / "d.rst").write_text("New.")
    index = Index.load(tmp_path / "index", Encoder())
    assert index.update(notes) == Update(["d.rst"], ["a.md"], ["b.txt"], 1, [], {".png": 1, "": 1})
    assert index.encoder.embedded == ["Changed.", "New."]
    require_like_new(index, notes)
    index.save(tmp_path / "index")

    index = Index.load(tmp_path / "index", Encoder())
    assert index.update(notes) == Update(unchanged=3, others={".png": 1, "": 1})
    assert index.encoder.embedded == []
    require_like_new(index, notes)
    (notes / "e.md").write_text("Newer.")
    assert index.update(notes).new == ["e.md"]
    require_like_new(index, notes)


def test_passages_that_were_added_by_hand_stay(notes):
    index = Index.empty(Encoder())
    index.update(notes)
    index.add(["By hand."])
    (notes / "a.md").unlink()
    (notes / "d.md").write_text("Behind it.")
    index.update(notes)
    index.add(["By hand again."])
    index.update(notes)
    hits = index.search(np.stack([Encoder.vector("By hand."), Encoder.vector("By hand again.")]), k=1)
    assert [hit.passage for (hit,) in hits] == ["By hand.", "By hand again."]
    assert sum(origin.passages for origin in index._origins) == len(index)


def test_a_file_that_cannot_be_read_any_more_is_dropped_and_named(notes):
    index = Index.empty(Encoder())
    index.update(notes)
    (notes / "b.txt").write_bytes(b"caf\xe9")
    update = index.update(notes)
    assert update.removed == ["b.txt"]
    assert "b.txt is not UTF-8" in update.skipped[0]
    assert not any(p.source.startswith("b.txt") for p in index._passages)


def test_after_an_error_the_index_is_as_it_was(notes):
    index = Index.empty(Encoder())
    index.update(notes)
    before = [*index._passages]
    (notes / "a.md").write_text("Changed.")

    class Broken(Encoder):
        def encode_documents(self, texts, **_):
            raise KeyboardInterrupt

    index.encoder = Broken()
    with pytest.raises(KeyboardInterrupt):
        index.update(notes)
    index.encoder = Encoder()
    assert (index._passages, index._faiss.ntotal) == (before, len(before))
    assert index.update(notes).changed == ["a.md"]
    require_like_new(index, notes)


def test_passages_and_vectors_stay_together_when_adding_is_interrupted():
    index = Index.build(["one"], Encoder())
    vectors = index._faiss

    class Interrupted:
        def __init__(self, late):
            self.late = late

        def __getattr__(self, name):
            return getattr(vectors, name)

        def add(self, rows):
            if self.late:
                vectors.add(rows)
            raise KeyboardInterrupt

    for late, number in ((False, 1), (True, 2)):
        index._faiss = Interrupted(late)
        with pytest.raises(KeyboardInterrupt):
            index.add(["two"])
        assert len(index) == vectors.ntotal == sum(origin.passages for origin in index._origins) == number


def test_an_index_of_passages_does_not_know_files(notes):
    index = Index.build(["by hand"], Encoder())
    with pytest.raises(InputError, match=r"does not know which files they are from; make a new one: Index\.empty"):
        index.update(notes)


def test_one_file(notes):
    index = Index.empty(Encoder())
    assert index.update(notes / "b.txt").new == ["b.txt"]
    assert index.update(notes / "b.txt").unchanged == 1
    with pytest.raises(InputError, match=r"the suffix '\.png' is unknown"):
        index.update(notes / "picture.png")
    index.update(notes)
    with pytest.raises(InputError, match=r"b\.txt is one file, .* would drop all others .* such as 'a\.md'; give the"):
        index.update(notes / "b.txt")
    assert {origin.name for origin in index._origins} == {"a.md", "b.txt", "sub/c.md"}
    with pytest.raises(FileNotFoundError):
        index.update(notes / "gone.md")


def test_nothing_to_read(tmp_path):
    index = Index.empty(Encoder())
    with pytest.raises(InputError, match="has no passages; index reads .txt"):
        index.update(tmp_path)
    with pytest.raises(InputError, match="the index is empty; add passages, or update it with a folder"):
        index.search(np.ones(3, np.float32))


def test_names_that_are_no_utf8_are_kept(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    name = b"caf\xe9.md".decode("utf-8", "surrogateescape")
    (folder / name).write_text("Text.")
    (folder / name.replace(".md", ".py")).write_text('"""Surrogates: \\ud83d"""')
    index = Index.empty(Encoder())
    index.update(folder)
    index.save(tmp_path / "index")
    (tmp_path / "index" / "passages.jsonl").read_text(encoding="utf-8")  # the file is UTF-8
    loaded = Index.load(tmp_path / "index", Encoder())
    assert loaded._passages == index._passages
    assert [p.source for p in loaded._passages] == [f"{name}:1", f"{name.replace('.md', '.py')}:1"]
    assert [p.text for p in loaded._passages] == ["Text.", "caf\\udce9: Surrogates: \\ud83d"]
    assert (folder / loaded.search("Text.", k=1)[0].source.rsplit(":", 1)[0]).is_file()
    assert loaded.update(folder).unchanged == 2


def test_the_manifest_beside_the_files_is_json(notes, tmp_path):
    index = Index.empty(Encoder())
    index.update(notes)
    index.save(tmp_path / "index")
    lines = (tmp_path / "index" / "files.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["a.md", "b.txt", "sub/c.md"]


def test_late_chunking_is_refused_before_anything_is_read():
    nothing_is_loaded = EchoEncoder("no/such-model", EchoConfig("{text}:", pooling="last"))
    eol = EchoEncoder("no/such-model", "prompt-eol")
    with pytest.raises(ConfigError, match=r"pools what follows the text .*pool_tail=True"):
        Index.empty(eol, late_chunking=True)
    with pytest.raises(TypeError, match="encoder is a Encoder, which has no encode_chunks"):
        Index.empty(Encoder(), late_chunking=True)
    with pytest.raises(ConfigError, match="pools what follows the text"):
        embed_table([{"text": "a"}], "out.parquet", eol, split="passages", late_chunking=True)
    require_chunking(nothing_is_loaded)


def test_late_chunking_reads_each_file_as_a_whole(tmp_path):
    encoder = EchoEncoder(tiny("llama"), "late-echo", tokenizer=small_tokenizer(["one two three", "four five"]))
    (tmp_path / "a.txt").write_text("one two three\n\nfour five\n\none two")
    (tmp_path / "b.txt").write_text("four five")
    index = Index.empty(encoder, late_chunking=True)
    index.update(tmp_path)
    texts = [passage.text for passage in index._passages]
    whole = "\n\n".join(texts[:-1])
    spans = [(whole.index(text), whole.index(text) + len(text)) for text in texts[:-1]]
    expected = [*encoder.encode_chunks(whole, spans), encoder.encode_documents(texts[-1])]
    np.testing.assert_allclose(index._faiss.reconstruct_n(0, len(texts)), expected, atol=1e-5)
    index.save(tmp_path.parent / "late.index")
    loaded = Index.load(tmp_path.parent / "late.index", encoder)
    assert loaded.manifest.late_chunking
    with pytest.raises(InputError, match=r"the index has late chunking, and needs the files .*: use update\(folder\)"):
        loaded.add(["a passage"])
    index._require_same_vectors(encoder)  # of a passage within its file, and not alone
    with pytest.raises(InputError, match=r"gives other vectors than those of the index .* passage b\.txt:1"):
        index._require_same_vectors(encoder.with_config(EchoConfig.preset("classical")))
