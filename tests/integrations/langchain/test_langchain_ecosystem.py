"""The adapter at work in what people build with LangChain, on first lines of docstrings of the standard library."""

import asyncio
import inspect

import faiss
import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import Field

from langchain_echo_embeddings import EchoEmbeddings

QUESTION = "How do I turn a string into uppercase letters?"


def first_line(method):
    return inspect.getdoc(method).splitlines()[0]


ANSWER = first_line(str.upper)


@pytest.fixture(scope="module")
def embeddings(builtin_encoder):
    return EchoEmbeddings(encoder=builtin_encoder)


@pytest.fixture(scope="module")
def documents():
    methods = [str.upper, str.split, str.encode, list.append, list.sort, dict.update, set.union, bytes.hex]
    return [Document(first_line(m), metadata={"name": m.__qualname__, "of": m.__qualname__[:3]}) for m in methods]


def test_in_memory_store_and_retriever(embeddings, documents):
    store = InMemoryVectorStore.from_documents(documents, embeddings)
    ((found, score),) = store.similarity_search_with_score(QUESTION, k=1)
    assert found.page_content == ANSWER
    texts = [document.page_content for document in documents]  # in one batch, as the store embeds them: bf16 rounds
    expected = np.dot(embeddings.embed_query(QUESTION), embeddings.embed_documents(texts)[texts.index(ANSWER)])
    assert score == pytest.approx(expected, abs=1e-3)
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 3})
    assert retriever.invoke(QUESTION)[0].page_content == ANSWER
    assert asyncio.run(store.as_retriever().ainvoke(QUESTION))[0].page_content == ANSWER


def test_chain(embeddings, documents):
    retriever = InMemoryVectorStore.from_documents(documents, embeddings).as_retriever(search_kwargs={"k": 2})
    chain = {"question": RunnablePassthrough(), "context": retriever} | RunnableLambda(
        lambda given: f"{given['question']} -> {[d.metadata['name'] for d in given['context']]}"
    )
    assert chain.invoke(QUESTION).startswith(f"{QUESTION} -> ['str.upper', ")
    assert asyncio.run(chain.abatch([QUESTION, QUESTION]))[1] == chain.invoke(QUESTION)


def test_faiss_inner_product_is_cosine(embeddings, documents):
    texts = [document.page_content for document in documents]
    vectors = np.array(embeddings.embed_documents(texts), dtype=np.float32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    scores, rows = index.search(np.array([embeddings.embed_query(QUESTION)], dtype=np.float32), 3)
    assert texts[rows[0, 0]] == ANSWER
    assert 1 >= scores[0, 0] >= scores[0, 1] >= -1


# Local mode says that payload indexes have no effect in it.
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
def test_qdrant_persisted_and_reopened(embeddings, documents, tmp_path):
    from langchain_qdrant import QdrantVectorStore  # two seconds
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, FieldCondition, Filter, MatchValue, VectorParams

    folder = str(tmp_path / "qdrant")
    client = QdrantClient(path=folder)
    size = len(embeddings.embed_query("x"))
    client.create_collection("docs", vectors_config=VectorParams(size=size, distance=Distance.COSINE))
    QdrantVectorStore(client, "docs", embeddings).add_documents(documents)
    client.close()

    client = QdrantClient(path=folder)
    store = QdrantVectorStore(client, "docs", embeddings)
    assert store.similarity_search(QUESTION, k=1)[0].metadata["name"] == "str.upper"
    only_lists = Filter(must=[FieldCondition(key="metadata.of", match=MatchValue(value="lis"))])
    found = store.similarity_search(QUESTION, k=5, filter=only_lists)
    assert {document.metadata["name"] for document in found} == {"list.append", "list.sort"}
    assert store.as_retriever().invoke(QUESTION)[0].metadata["name"] == "str.upper"
    client.close()


class Counting(EchoEmbeddings):
    """Counts the texts that are embedded, so that a cache can be seen at work."""

    seen: list[str] = Field(default_factory=list)

    def embed_documents(self, texts):
        self.seen.extend(texts)
        return super().embed_documents(texts)

    def embed_query(self, text):
        self.seen.append(text)
        return super().embed_query(text)


def test_cache_keeps_models_and_roles_apart(builtin_encoder, asymmetric_encoder, tmp_path):
    store, queries = LocalFileStore(tmp_path), InMemoryByteStore()
    cached, plain = {}, {}
    for name, encoder in {"one template": builtin_encoder, "two": asymmetric_encoder}.items():
        plain[name] = Counting(encoder=encoder, seen=[])
        cached[name] = CacheBackedEmbeddings.from_bytes_store(
            plain[name],
            store,
            namespace=plain[name].cache_namespace,
            query_embedding_cache=queries,
            key_encoder="sha256",
        )
    texts = [QUESTION, ANSWER]
    for name, embeddings in cached.items():
        first = embeddings.embed_documents(texts), embeddings.embed_query(QUESTION)
        assert first == (embeddings.embed_documents(texts), embeddings.embed_query(QUESTION))
        assert plain[name].seen == [QUESTION, ANSWER, QUESTION]
    different = cached["two"]
    assert different.embed_documents([QUESTION])[0] != different.embed_query(QUESTION)
    assert len(list(tmp_path.iterdir())) == 4
