"""Index once, restart, ask: an embedded Qdrant database on disk, through LangChain.

Run without arguments, this file plays both parts: it indexes, then starts itself again in a fresh process that knows
nothing but the folder. Needs langchain-qdrant. About half a minute on two cores.
"""

import ast
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, VectorParams

from langchain_echo_embeddings import EchoEmbeddings

QUESTIONS = [
    "How do I send an e-mail?",
    "How can I parse command line options?",
    "How do I find the median of some numbers?",
    "Which module makes temporary files?",
]


def load_documents(folder: Path) -> list[Document]:
    """The beginning of each module's docstring, with the file that it comes from."""
    documents = []
    for path in sorted(folder.glob("[a-z]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        if len(docstring) > 150:
            documents.append(Document(docstring[:400], metadata={"source": path.name}))
    return documents


def index(folder: str, embeddings: EchoEmbeddings) -> None:
    started = time.perf_counter()
    documents = load_documents(Path(ast.__file__).parent)
    client = QdrantClient(path=folder)
    # A collection is named after all that defines its vectors: another model or config gets another one.
    name, size = embeddings.cache_namespace, len(embeddings.embed_query("How long is a vector?"))
    client.create_collection(name, VectorParams(size=size, distance=Distance.COSINE))
    QdrantVectorStore(client, name, embeddings).add_documents(documents)
    client.close()
    print(f"indexed {len(documents)} docstrings as {name!r} in {time.perf_counter() - started:.0f} s")


def ask(folder: str, embeddings: EchoEmbeddings) -> None:
    client = QdrantClient(path=folder)
    store = QdrantVectorStore(client, embeddings.cache_namespace, embeddings)
    for question in QUESTIONS:
        print(question)
        for document, score in store.similarity_search_with_score(question, k=2):
            print(f"    {score:.2f}  {document.metadata['source']:14} {document.page_content.splitlines()[0]}")
    client.close()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        ask(sys.argv[1], EchoEmbeddings())
    else:
        with tempfile.TemporaryDirectory() as folder:
            index(folder, EchoEmbeddings())
            print("a new process opens the same folder:\n", flush=True)
            subprocess.run([sys.executable, __file__, folder], check=True)
