"""Code as users write it, with every public name of the four distributions: for type checkers, and never run."""

# ruff: noqa: T201

import asyncio
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
from langchain_core.documents import Document as Passages
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from sentence_transformers import SentenceTransformer

from echo_embeddings import (
    ConfigError,
    DimensionsWarning,
    EchoConfig,
    EchoEncoder,
    EchoError,
    Embedder,
    EmbedFilter,
    EncoderOptions,
    LeftOutWarning,
    Lexical,
    ModelError,
    ModelUnavailableError,
    NumericalError,
    Project,
    Standardize,
    Template,
    TokenEmbeddings,
    Truncate,
    TruncationError,
    TruncationWarning,
    Tuned,
    WindowWarning,
    WorkerError,
    embed_table,
    tune,
)
from echo_embeddings.chunking import spans_of
from echo_embeddings.evaluation import Dataset, Explanation, Score, compare, explain, open_dataset
from echo_embeddings.search import Hit, Index, Passage, Plan, Update
from langchain_echo_embeddings import EchoEmbeddings
from llama_index.embeddings.echo import EchoEmbedding, LateChunker
from sentence_transformers_echo import EchoModule, export_stock, from_encoder, load, save
from sentence_transformers_echo.training import Data, Lora, Recipe, mine, train

TEXTS = ["The ferry leaves the island at dawn.", "Bread rises faster in a warm room."]


def readme() -> None:
    encoder = EchoEncoder()
    documents = encoder.encode_documents(TEXTS)
    query = encoder.encode_queries("when does the boat go?")
    print(encoder.similarity(documents, query))


def encoders() -> None:
    with EchoEncoder(
        "some/model",
        "late-echo",
        "cpu",
        "float32",
        adapter=Path("adapter"),
        dimensions=256,
        max_length=400,
        on_truncate="error",
        compiled=False,
        batch_tokens=4096,
        speed={"block_attention": False},
        model_kwargs={"revision": "main"},
    ) as encoder:
        print(encoder.describe(), encoder.dimension, encoder.max_length, encoder.truncated.texts)
        print(
            encoder.config.max_length, encoder.model_name, encoder.precision, encoder.computed_in, encoder.fingerprint()
        )
    options = EncoderOptions(config="echo", devices=["cpu", "cpu"], speed=False)
    encoder = EchoEncoder.from_options(options.replace(device="cpu", devices=None))
    encoder.save_pretrained("folder")
    encoder.save_pretrained(Path("folder"))
    encoder.close()


def texts() -> None:
    encoder = EchoEncoder(config=EchoConfig.preset("echo"), devices=["cpu", "cpu"])
    vectors = encoder.encode_documents(("a", "b"), show_progress=True)
    vectors = encoder.encode_documents(np.array(TEXTS), show_progress=print)
    vectors = encoder.encode_queries(pa.array(TEXTS), instruction="Find it")
    print(vectors.shape, vectors[0].tolist(), encoder.count_tokens(TEXTS)[0])
    for vector in encoder.stream_documents((text.strip() for text in TEXTS), chunk=8):
        print(vector.shape)
    for vector in encoder.stream_queries(TEXTS, instruction=None):
        print(vector.shape)
    tokens = encoder.encode_tokens(TEXTS[0])
    several: list[TokenEmbeddings] = encoder.encode_tokens(TEXTS)
    print(tokens.tokens, tokens.offsets.shape, tokens.vectors.shape, len(several))
    chunks = encoder.encode_chunks(TEXTS[0], [(0, 1), (1, 2)])
    for chunks in encoder.encode_chunks(TEXTS, [[(0, 1)] for _ in TEXTS]):
        print(chunks.shape)
    for chunks in encoder.stream_chunks(TEXTS, spans_of(str.split), at_once=8):
        print(chunks[0].tolist())
    print(encoder.encode_chunks(np.array(TEXTS), lambda text: [(0, len(text))], show_progress=True)[0].shape)
    print(encoder.encode_tokens("a", role="query").vectors, EchoEncoder(max_length="context", on_truncate="split"))


async def awaited() -> None:
    encoder = EchoEncoder()
    print((await encoder.aencode_documents(TEXTS)).shape, (await encoder.aencode_queries("a")).shape)
    print(len(await EchoEmbeddings().aembed_query("a")), len(await EchoEmbedding().aget_query_embedding("a")))


def configs() -> None:
    config = EchoConfig(
        Template("Passage: {text}\nAgain: {text}", instruction=None, prompt="passage: "),
        query_template="Question: {text}\nAgain: {text}",
        pooling="mean",
        start_layer=0.6,
        exit_layer=-1,
        transforms=(Standardize(np.zeros(8), np.ones(8)), Project(np.zeros((8, 4)), np.zeros(4)), Truncate(2)),
        lexical=Lexical.fit(TEXTS, blocks=(8, 16)),
    )
    config = config.replace(max_length=100, transforms=(EmbedFilter(np.eye(8)),)).truncated(256)
    config.save("folder")
    encoder = EchoEncoder(config=EchoConfig.load("folder"))
    fitted = encoder.fit_transforms(TEXTS, ["standardize", Truncate(256)])
    print(fitted.with_config(config).config.fingerprint(), Template.repeat(3).prompted("query: ").copies)


def errors() -> None:
    warnings.simplefilter("ignore", TruncationWarning)
    warnings.simplefilter("ignore", LeftOutWarning)
    warnings.simplefilter("ignore", WindowWarning)
    warnings.simplefilter("ignore", DimensionsWarning)
    try:
        EchoEncoder().encode_documents(TEXTS)
    except TruncationError as error:
        print(error.texts, error.tokens)
    except (ConfigError, ModelUnavailableError, ModelError, NumericalError, WorkerError) as error:
        print(error)
    except EchoError as error:
        print(error)


def tables_and_indexes() -> None:
    done = embed_table("in.csv", "out.parquet", EchoEncoder())
    tuned: Tuned = tune(None, TEXTS, minutes=1, show_progress=True)
    tuned.encoder.save_pretrained("tuned")
    print(done.rows, done.dimension)
    index = Index.build([Passage("ferry.txt:1", "The ferry leaves at dawn.")], EchoEncoder())
    hits: list[Hit] = index.search("when does the boat go?", 5)
    print(hits[0].score, hits[0].passage, Plan, Update)
    index.save("my-index")
    print(len(Index.load("my-index")))


def judged() -> None:
    dataset: Dataset = open_dataset("folder")
    explanation: Explanation = explain(EchoEncoder(), TEXTS[0])
    explanation.save("page.html")
    scores: list[Score] = compare(EchoEncoder(), dataset, ["default", "zero-shot"], limit=10)
    print(scores[0])


def of_any_embedder(embedder: Embedder) -> int:
    return len(embedder.encode_documents(["a"])) + embedder.dimension


def langchain() -> None:
    embeddings: Embeddings = EchoEmbeddings()
    InMemoryVectorStore.from_texts(TEXTS, embeddings).similarity_search("a", k=1)
    made = EchoEmbeddings(
        model="some/model",
        config="echo",
        device="cpu",
        dimensions=256,
        max_length=300,
        on_truncate="ignore",
        model_kwargs={"revision": "main"},
        encode_kwargs={"normalize_embeddings": True},
        show_progress=True,
    )
    with made.late_chunks([Passages(TEXTS[0])], str.split) as chunks:
        print(chunks[0].page_content, made.embed_chunks(chunks, str.split)[1])
    print(made.cache_namespace, made.query_cache_namespace, made.embed_documents(TEXTS), made.embed_query("a"))
    print(
        EchoEmbeddings(model_name="some/model"),
        EchoEmbeddings(encoder=EchoEncoder()).model_name,
        EchoEmbeddings(config=EchoConfig.preset("echo")).config,
    )


def llama_index() -> None:
    embedding: BaseEmbedding = EchoEmbedding()
    Settings.embed_model = embedding
    VectorStoreIndex.from_documents([Document(text=TEXTS[0])], embed_model=EchoEmbedding())
    made = EchoEmbedding(
        model_name="some/model",
        config=EchoConfig.preset("echo"),
        devices=["cpu", "cpu"],
        dimensions=256,
        max_length=300,
        embed_batch_size=64,
        query_instruction="Find it",
        show_progress_bar=True,
    )
    print(made.get_text_embedding_batch(TEXTS), made.get_query_embedding("a"), EchoEmbedding(encoder=EchoEncoder()))
    nodes = LateChunker(embed_model=made)([Document(text=TEXTS[0])])
    VectorStoreIndex(nodes, embed_model=made)


def sentence_transformers() -> None:
    model: SentenceTransformer = from_encoder(EchoEncoder())
    documents = model.encode_document(TEXTS)
    print(model.similarity(documents, model.encode_query(["a"])))
    save(model, "folder")
    save(EchoEncoder(), Path("folder"))
    module = load("folder", max_length=400, on_truncate="ignore")[0]
    assert isinstance(module, EchoModule)
    print(module.truncated.texts, module.max_seq_length, module.echo_config.pooling)
    export_stock(EchoEncoder(config="echo"), "stock", role="query")


def trained() -> None:
    recipe = Recipe(data=[Data("pairs.jsonl")], output="my-model", steps=300, lora=Lora(rank=8), evaluate=["sets"])
    train(recipe)
    print(mine(Data("pairs.jsonl", columns=["anchor", "positive"]), Path("mined.jsonl"), EchoEncoder()))


if __name__ == "__main__":
    readme()
    asyncio.run(awaited())
