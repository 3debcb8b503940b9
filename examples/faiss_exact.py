"""Exact search with FAISS: every question against every passage, by cosine."""

import faiss
from stdlib_passages import QUESTIONS, load_docs

from echo_embeddings import EchoEncoder

docs = load_docs(400)
encoder = EchoEncoder()

# Vectors have unit length, so the inner product is the cosine. (IndexFlatL2 would sort them alike, but its numbers are
# distances: small is near.)
index = faiss.IndexFlatIP(encoder.dimension)
index.add(encoder.encode_documents([doc.text for doc in docs]))

scores, rows = index.search(encoder.encode_queries(QUESTIONS[:4]), 3)
print(f"{index.ntotal} passages, {encoder.dimension} dimensions")
for question, best_scores, best_rows in zip(QUESTIONS, scores, rows, strict=False):
    print(f"\n{question}")
    for score, row in zip(best_scores, best_rows, strict=True):
        print(f"  {score:.2f}  {' '.join(docs[row].text.split())[:90]}")
