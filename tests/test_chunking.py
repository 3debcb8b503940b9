"""Chunkers of other libraries, and functions, as spans of a document."""

import numpy as np
import pytest
from chonkie import RecursiveChunker, SentenceChunker, TokenChunker
from langchain_core.documents import Document as LangChainDocument
from langchain_text_splitters import (
    CharacterTextSplitter,
    MarkdownHeaderTextSplitter,
    RecursiveCharacterTextSplitter,
)
from llama_index.core.node_parser import (
    MarkdownNodeParser,
    SentenceSplitter,
    SentenceWindowNodeParser,
    TokenTextSplitter,
)

from echo_embeddings.chunking import spans_of
from echo_embeddings.errors import InputError

TEXT = (
    "# Ferries\n\nThe ferry leaves the island at dawn. It is late today.\n\n"
    "## Żółte 🙂 promy\n\nIt is late today. It is late today.\n\nBread rises faster in a warm room, says the baker.  "
)
CHUNKERS = {
    "RecursiveCharacterTextSplitter": RecursiveCharacterTextSplitter(chunk_size=40, chunk_overlap=12),
    "with its own index": RecursiveCharacterTextSplitter(chunk_size=40, chunk_overlap=0, add_start_index=True),
    "CharacterTextSplitter": CharacterTextSplitter(separator=". ", chunk_size=30, chunk_overlap=0),
    "SentenceSplitter": SentenceSplitter(chunk_size=20, chunk_overlap=6),
    "TokenTextSplitter": TokenTextSplitter(chunk_size=12, chunk_overlap=3),
    "SentenceWindowNodeParser": SentenceWindowNodeParser(window_size=1),
    "MarkdownNodeParser": MarkdownNodeParser(),
    "TokenChunker": TokenChunker(chunk_size=25, chunk_overlap=5),
    "SentenceChunker": SentenceChunker(chunk_size=60),
    "RecursiveChunker": RecursiveChunker(chunk_size=40),
}


def texts_of(chunker):
    """What the library itself says that the chunks are."""
    if hasattr(chunker, "get_nodes_from_documents"):
        from llama_index.core import Document

        return [node.text for node in chunker.get_nodes_from_documents([Document(text=TEXT)])]
    if hasattr(chunker, "split_text"):
        return chunker.split_text(TEXT)
    return [chunk.text for chunk in chunker.chunk(TEXT)]


@pytest.mark.parametrize("name", CHUNKERS)
def test_spans_are_the_texts_of_the_library(name):
    chunker = CHUNKERS[name]
    spans, texts = spans_of(chunker)(TEXT), texts_of(chunker)
    assert len(texts) > 1
    assert [TEXT[start:end] for start, end in spans] == texts
    assert spans == sorted(spans)
    assert len(set(spans)) == len(spans)  # "It is late today." stands three times, and each is another chunk
    left = [character for place, character in enumerate(TEXT) if not any(a <= place < b for a, b in spans)]
    assert not "".join(left).strip(" \n.#")  # the chunks together are the document


def test_headers_that_a_splitter_takes_out_are_left_out():
    splitter = MarkdownHeaderTextSplitter([("#", "title"), ("##", "part")])
    spans = spans_of(splitter)(TEXT)
    assert [" ".join(TEXT[start:end].split()) for start, end in spans] == [
        " ".join(document.page_content.split()) for document in splitter.split_text(TEXT)
    ]


def test_spans_may_be_an_array():
    assert spans_of(lambda _: np.array([[0, 3], [3, 5]]))("abcde") == [(0, 3), (3, 5)]


def test_any_function_will_do():
    assert spans_of(str.split)("a bb a") == [(0, 1), (2, 4), (5, 6)]
    assert spans_of(lambda text: [(0, 2), [1, 3]])("abc") == [(0, 2), (1, 3)]
    assert spans_of(lambda text: [LangChainDocument("b")])("abc") == [(1, 2)]
    assert spans_of(lambda text: [])("abc") == []
    assert spans_of(lambda text: ["", "ab", ""])("ab") == [(0, 0), (0, 2), (2, 2)]
    assert spans_of(lambda text: ["c d", "a b"])("a b c  d a b") == [(4, 8), (9, 12)]  # white space may differ


def test_repeated_texts_are_found_in_their_order():
    assert spans_of(lambda text: ["a a", "a a"])("a a a a") == [(0, 3), (4, 7)]
    assert spans_of(lambda text: ["x y", "y z", "z"])("x y z") == [(0, 3), (2, 5), (4, 5)]
    assert spans_of(lambda text: ["b", "a"])("a b") == [(2, 3), (0, 1)]  # out of order


def test_where_words_recur_and_chunks_overlap_no_chunk_jumps_back_to_the_beginning():
    document = "the " * 180 + "end  of it"
    splitter = RecursiveCharacterTextSplitter(chunk_size=30, chunk_overlap=10)
    for split in (splitter.split_text, lambda text: [*splitter.split_text(text), "end of it", "the the", "of\nit"]):
        starts = [start for start, _ in spans_of(split)(document)]
        moved = np.diff(starts)
        assert moved.min() >= -20, "by the length of some words"
        assert starts[-1] > len(document) - 60


def test_a_place_that_is_wrong_is_not_believed():
    wrong = LangChainDocument("b c", metadata={"start_index": -1})
    assert spans_of(lambda text: [wrong])("a b c") == [(2, 5)]
    elsewhere = LangChainDocument("a", metadata={"start_index": 1})
    assert spans_of(lambda text: [elsewhere])("a b c") == [(0, 1)]


def test_what_is_not_in_the_document_is_named():
    with pytest.raises(InputError, match=r"chunk 1 of the chunker, 'A SUMMARY', does not stand in the document 'a b'"):
        spans_of(lambda text: ["a", "A SUMMARY"])("a b")
    with pytest.raises(TypeError, match="chunk 0 is None, a NoneType"):
        spans_of(lambda text: [None])("a b")
    with pytest.raises(TypeError, match="the chunker gave 'a b' for a document, not a list"):
        spans_of(lambda text: text)("a b")
    with pytest.raises(TypeError, match="chunker is a int, which has no split_text .LangChain., get_nodes"):
        spans_of(3)
    with pytest.raises(TypeError, match="chunker is the class SentenceSplitter; give an object of it"):
        spans_of(SentenceSplitter)
