"""The adapter at work in what people build with LlamaIndex, on first lines of docstrings of the standard library."""

import asyncio
import inspect
from dataclasses import dataclass, field

import faiss
import numpy as np
import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.node_parser import SentenceSplitter
from llama_index.vector_stores.faiss import FaissVectorStore

from llama_index.embeddings.echo import EchoEmbedding

QUESTION = "How do I turn a string into uppercase letters?"


def first_line(method):
    return inspect.getdoc(method).splitlines()[0]


ANSWER = first_line(str.upper)


@pytest.fixture(scope="module")
def embedding(builtin_encoder):
    return EchoEmbedding(encoder=builtin_encoder)


@pytest.fixture(scope="module")
def documents():
    methods = [str.upper, str.split, str.encode, list.append, list.sort, dict.update, set.union, bytes.hex]
    return [Document(text=first_line(m), doc_id=m.__qualname__) for m in methods]


def test_vector_store_index_persisted_and_loaded(embedding, documents, tmp_path):
    index = VectorStoreIndex.from_documents(documents, embed_model=embedding)
    found = index.as_retriever(similarity_top_k=3).retrieve(QUESTION)
    assert found[0].text == ANSWER
    texts = [document.text for document in documents]  # in one batch, as the index embeds them: bf16 rounds
    vectors = embedding.get_text_embedding_batch(texts)
    expected = np.dot(embedding.get_query_embedding(QUESTION), vectors[texts.index(ANSWER)])
    assert found[0].score == pytest.approx(expected, abs=1e-3)
    index.storage_context.persist(tmp_path)

    again = load_index_from_storage(StorageContext.from_defaults(persist_dir=tmp_path), embed_model=embedding)
    retriever = again.as_retriever(similarity_top_k=3)
    assert [n.score for n in retriever.retrieve(QUESTION)] == pytest.approx([n.score for n in found])
    assert asyncio.run(retriever.aretrieve(QUESTION))[0].text == ANSWER


def test_faiss_persisted_and_loaded(embedding, documents, tmp_path):
    store = FaissVectorStore(faiss.IndexFlatIP(1024))
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embedding)
    found = index.as_retriever(similarity_top_k=3).retrieve(QUESTION)
    assert found[0].text == ANSWER
    assert 1 >= found[0].score >= found[1].score >= found[2].score
    index.storage_context.persist(tmp_path)

    store = FaissVectorStore.from_persist_dir(str(tmp_path))
    context = StorageContext.from_defaults(vector_store=store, persist_dir=str(tmp_path))
    again = load_index_from_storage(context, embed_model=embedding)
    assert again.as_retriever(similarity_top_k=1).retrieve(QUESTION)[0].text == ANSWER


@dataclass
class Counting:
    """Counts the texts that are embedded; its repr says what its vectors depend on."""

    scale: float
    seen: list[str] = field(default_factory=list, repr=False)
    dimension: int = 2

    def encode_documents(self, texts):
        self.seen.extend(texts)
        return np.array([[self.scale, len(text)] for text in texts], dtype=np.float32)

    encode_queries = encode_documents


def test_pipeline_cache(documents, tmp_path):
    splitter = SentenceSplitter(chunk_size=256)
    first = Counting(1.0)
    pipeline = IngestionPipeline(transformations=[splitter, EchoEmbedding(encoder=first)])
    nodes = pipeline.run(documents=documents)
    assert len(first.seen) == len(nodes) >= len(documents)
    pipeline.cache.persist(str(tmp_path / "cache.json"))

    for scale, embedded in ((1.0, 0), (2.0, len(nodes))):
        counting = Counting(scale)
        cache = IngestionCache.from_persist_path(str(tmp_path / "cache.json"))
        pipeline = IngestionPipeline(transformations=[splitter, EchoEmbedding(encoder=counting)], cache=cache)
        assert [node.embedding[0] for node in pipeline.run(documents=documents)] == [scale] * len(nodes)
        assert len(counting.seen) == embedded


def test_pipeline_hash_follows_the_fields(documents, asymmetric_encoder, builtin_encoder):
    embeddings = [
        EchoEmbedding(encoder=builtin_encoder),
        EchoEmbedding(encoder=asymmetric_encoder),
        EchoEmbedding(config="echo"),
        EchoEmbedding(config="echo", dimensions=8),
        EchoEmbedding(config="echo", dtype="float32"),
    ]
    assert len({get_transformation_hash(documents, embedding) for embedding in embeddings}) == len(embeddings)
    assert get_transformation_hash(documents, EchoEmbedding(encoder=builtin_encoder)) == get_transformation_hash(
        documents, embeddings[0]
    )


def test_pipeline_with_the_real_model(embedding, documents):
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embedding], disable_cache=True)
    nodes = pipeline.run(documents=documents[:3])
    assert np.linalg.norm([node.embedding for node in nodes], axis=1) == pytest.approx(1, abs=1e-5)
    again = asyncio.run(
        IngestionPipeline(transformations=[SentenceSplitter(), embedding]).arun(documents=documents[:3])
    )
    assert again[0].embedding == pytest.approx(nodes[0].embedding, abs=1e-6)


def test_any_embedder_will_do_where_nothing_is_cached(documents):
    class Opaque(Counting):
        __repr__ = object.__repr__

    embedding = EchoEmbedding(encoder=Opaque(1.0))
    index = VectorStoreIndex.from_documents(documents, embed_model=embedding)
    assert len(index.as_retriever(similarity_top_k=2).retrieve(QUESTION)) == 2
    with pytest.raises(ValueError, match="nothing tells one Opaque from another"):
        IngestionPipeline(transformations=[embedding]).run(documents=documents)
    pipeline = IngestionPipeline(transformations=[embedding], disable_cache=True)
    assert len(pipeline.run(documents=documents)) == len(documents)
