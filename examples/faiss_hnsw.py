"""Approximate search with a graph (HNSW): fast without training, and how much of the exact answer it finds."""

import faiss
from stdlib_passages import QUESTIONS, load_docs, recall_at

from echo_embeddings import EchoEncoder

docs = load_docs(400)
encoder = EchoEncoder()
vectors = encoder.encode_documents([doc.text for doc in docs])
queries = encoder.encode_queries(QUESTIONS)

exact = faiss.IndexFlatIP(encoder.dimension)
exact.add(vectors)
_, truth = exact.search(queries, 10)

# 16 links a passage; with more links and a wider search it finds more and takes longer.
index = faiss.IndexHNSWFlat(encoder.dimension, 16, faiss.METRIC_INNER_PRODUCT)
index.hnsw.efConstruction = 80
index.add(vectors)

print(f"{index.ntotal} passages, {len(QUESTIONS)} questions")
for width in (10, 20, 80):
    found = index.search(queries, 10, params=faiss.SearchParametersHNSW(efSearch=width))[1]
    print(f"efSearch={width:<3} recall@10 against exact search: {recall_at(found, truth):.2f}")
