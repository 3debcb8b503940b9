"""Late-chunked nodes in LlamaIndex's pipelines, indexes and vector stores."""

import faiss
import numpy as np
import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import MarkdownNodeParser, TokenTextSplitter
from llama_index.vector_stores.faiss import FaissVectorStore

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder
from llama_index.embeddings.echo import EchoEmbedding, LateChunker
from tests.architectures import small_tokenizer, tiny
from tests.conftest import cosines

TEXT = (
    "# Ferries\n\nThe ferry leaves at dawn. It is late today.\n\n"
    "# Bread\n\nBread rises in a warm room. It is late today. "
)
TOKENIZER = small_tokenizer([TEXT, "abcdefghijklmnopqrstuvwxyz_:.PM"])


def embedding(**more):
    config = EchoConfig("{text}\n{text}", start_layer=2)
    return EchoEmbedding(encoder=EchoEncoder(tiny("llama"), config, tokenizer=TOKENIZER, dtype="float32", **more))


@pytest.fixture(scope="module")
def model():
    return embedding()


@pytest.fixture
def documents():
    return [Document(text=TEXT, metadata={"place": "Pula"}), Document(text=""), Document(text="It is late today.")]


@pytest.mark.parametrize("parser", [TokenTextSplitter(chunk_size=16, chunk_overlap=4), MarkdownNodeParser()])
def test_nodes_have_vectors_that_have_seen_their_document(model, documents, parser):
    nodes = LateChunker(node_parser=parser, embed_model=model)(documents)
    own = [node for node in nodes if node.ref_doc_id == documents[0].doc_id]
    assert len(own) > 1
    assert own[0].metadata["place"] == "Pula"
    whole = "place: Pula\n\n" + TEXT
    spans = [(13 + node.start_char_idx, 13 + node.end_char_idx) for node in own]
    assert (
        cosines(np.array([node.embedding for node in own]), model.encoder.encode_chunks(whole, spans)).min() > 0.99999
    )
    last = np.array(nodes[-1].embedding)[None]
    assert cosines(last, model.encoder.encode_documents(["It is late today."]))[0] > 0.99999


@pytest.mark.parametrize("given", [["a text"], "a text", Document(text="a text")], ids=["texts", "text", "document"])
def test_what_is_no_list_of_documents_is_named(model, given):
    with pytest.raises(TypeError, match=r"must be a list of documents, not \w+ .*; pass \[Document\(text=text\) for"):
        LateChunker(embed_model=model)(given)


def test_a_pipeline_fills_a_vector_store_and_an_index_answers(model, documents):
    store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(32))
    chunker = LateChunker(node_parser=TokenTextSplitter(chunk_size=16, chunk_overlap=0), embed_model=model)
    nodes = IngestionPipeline(transformations=[chunker], vector_store=store).run(documents=documents[:1])
    assert store.client.ntotal == len(nodes) > 1
    found, _ = store.client.search(np.array([nodes[1].embedding], np.float32), 1)
    assert found[0][0] == pytest.approx(1, abs=1e-5)
    context = StorageContext.from_defaults(vector_store=FaissVectorStore(faiss_index=faiss.IndexFlatIP(32)))
    for more in ({}, {"storage_context": context}):
        index = VectorStoreIndex(nodes, embed_model=model, **more)
        (best,) = index.as_retriever(similarity_top_k=1).retrieve("the ferry")
        query = model.encoder.encode_queries("the ferry")
        assert best.score == pytest.approx(max(np.array([node.embedding for node in nodes]) @ query), abs=1e-4)


async def test_it_can_be_awaited_and_cached(model, documents):
    cache, chunker = (
        IngestionCache(),
        LateChunker(node_parser=TokenTextSplitter(chunk_size=16, chunk_overlap=0), embed_model=model),
    )
    (first,) = await IngestionPipeline(transformations=[chunker], cache=cache).arun(documents=documents[2:])
    again = LateChunker(node_parser=TokenTextSplitter(chunk_size=16, chunk_overlap=0), embed_model=model)
    (second,) = IngestionPipeline(transformations=[again], cache=cache).run(documents=documents[2:])
    assert first.id_ == second.id_  # from the cache
    other = LateChunker(
        node_parser=TokenTextSplitter(chunk_size=16, chunk_overlap=0), embed_model=embedding(max_length=3)
    )
    (third,) = IngestionPipeline(transformations=[other], cache=cache).run(documents=documents[2:])
    assert third.id_ != first.id_
    assert "vectors" in chunker.to_dict()


def test_a_config_without_chunks_is_refused_when_the_chunker_is_made():
    with pytest.raises(ConfigError, match="pools what follows the text"):
        LateChunker(embed_model=EchoEmbedding(model_name="no/such-model", config="prompt-eol"))


def test_unknown_fields_are_refused(model):
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        LateChunker(embed_model=model, chunk_size=100)
