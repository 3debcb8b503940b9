"""Late-chunked vectors in LangChain's vector stores."""

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder
from langchain_echo_embeddings import EchoEmbeddings
from tests.architectures import small_tokenizer, tiny
from tests.conftest import cosines

TEXT = "The ferry leaves at dawn. It is late today.\n\nBread rises in a warm room. It is late today."
DOCUMENTS = [Document(TEXT, metadata={"source": "a"}), Document("It is late today.", metadata={"source": "b"})]
SPLITTER = RecursiveCharacterTextSplitter(chunk_size=27, chunk_overlap=0, separators=["\n\n", ". ", " "])


@pytest.fixture(scope="module")
def embeddings():
    encoder = EchoEncoder(
        tiny("llama"), EchoConfig("{text}\n{text}", start_layer=2), tokenizer=small_tokenizer([TEXT]), dtype="float32"
    )
    return EchoEmbeddings(encoder=encoder)


def test_chunks_are_documents_beside_their_vectors(embeddings):
    chunks, vectors = embeddings.embed_chunks(DOCUMENTS, SPLITTER)
    assert len(chunks) == len(vectors) > 4
    for chunk in chunks:
        text = TEXT if chunk.metadata["source"] == "a" else "It is late today."
        start = chunk.metadata["start_index"]
        assert text[start : start + len(chunk.page_content)] == chunk.page_content
    spans = [(one.metadata["start_index"], one.metadata["start_index"] + len(one.page_content)) for one in chunks[:-1]]
    wanted = embeddings.encoder.encode_chunks(TEXT, spans)
    assert cosines(np.array(vectors[:-1]), wanted).min() > 0.99999
    assert embeddings.embed_chunks([], SPLITTER) == ([], [])


@pytest.mark.parametrize("given", [["a text"], "a text", Document("a text"), [DOCUMENTS]], ids=str)
def test_what_is_no_list_of_documents_is_named(embeddings, given):
    with pytest.raises(
        TypeError, match=r"must be a list of Document, not \w+ .*; pass \[document\], or \[Document\(page"
    ):
        embeddings.embed_chunks(given, SPLITTER)


@pytest.mark.parametrize("kind", ["memory", "qdrant"])
def test_a_vector_store_gets_late_chunked_vectors(embeddings, kind):
    if kind == "memory":
        store = InMemoryVectorStore(embeddings)
    else:
        from langchain_qdrant import QdrantVectorStore  # two seconds

        store = QdrantVectorStore.from_texts(["another"], embeddings, location=":memory:", collection_name="c")
    chunks, vectors = embeddings.embed_chunks(DOCUMENTS, SPLITTER)
    with embeddings.late_chunks(DOCUMENTS, SPLITTER) as late:
        assert late == chunks
        store.add_documents(late)
    for chunk, vector in zip(chunks, vectors, strict=True):  # two have the same text, and vectors of their own
        found = store.similarity_search_with_score_by_vector(vector, k=1) if kind == "qdrant" else None
        found = found or [(one, score) for one, score, *_ in store._similarity_search_with_score_by_vector(vector, k=1)]
        ((best, score),) = found
        assert score == pytest.approx(1, abs=1e-5)
        assert best.page_content == chunk.page_content
        assert {**best.metadata, "_id": 0, "_collection_name": 0} | chunk.metadata == {
            **best.metadata,
            "_id": 0,
            "_collection_name": 0,
        }


async def test_a_store_may_add_them_asynchronously_and_outside_of_the_block_nothing_changes(embeddings):
    store = InMemoryVectorStore(embeddings)
    chunks, vectors = embeddings.embed_chunks(DOCUMENTS[:1], SPLITTER)
    with embeddings.late_chunks(DOCUMENTS[:1], SPLITTER) as late:
        await store.aadd_documents(late)
        other = embeddings.embed_documents(["A dog barks."])  # no chunk
        mixed = embeddings.embed_documents([chunks[0].page_content, "A dog barks."])
    assert cosines(np.array(mixed), np.array([vectors[0], *other])).min() > 0.99999
    added = np.array([one["vector"] for one in store.store.values()])
    assert cosines(added, np.array(vectors)).min() > 0.99999
    alone = np.array(embeddings.embed_documents([chunk.page_content for chunk in chunks]))
    assert cosines(added, alone).max() < 0.9999
    assert cosines(np.array(other), np.array(embeddings.embed_documents(["A dog barks."])))[0] > 0.99999


def test_another_embedder_has_no_late_chunks():
    class Fake:
        def encode_documents(self, texts):
            return np.zeros((len(texts), 2), np.float32)

        encode_queries = encode_documents

    with pytest.raises(TypeError, match="encoder is a Fake, which has no encode_chunks"):
        EchoEmbeddings(encoder=Fake()).embed_chunks(DOCUMENTS, SPLITTER)


def test_a_config_without_chunks_is_refused_before_documents_are_split():
    embeddings = EchoEmbeddings(model="no/such-model", config="prompt-eol")
    with pytest.raises(ConfigError, match="pools what follows the text"), embeddings.late_chunks(DOCUMENTS, None):
        pass


def test_max_length_may_be_the_context():
    assert EchoEmbeddings(max_length="context", on_truncate="split").max_length == "context"
    with pytest.raises(ValueError, match="max_length"):
        EchoEmbeddings(max_length="all")
    with pytest.raises(ValueError, match="greater than 0"):
        EchoEmbeddings(max_length=0)
