"""Compressed search (IVF-PQ): a fraction of the memory, and what that costs in recall."""

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
print(f"{len(docs)} passages; exact search keeps {4 * encoder.dimension} bytes each")

# 8 cells, of which `nprobe` are searched; a vector becomes `pieces` codes of 4 bits. With a million passages take some
# 4,000 cells and codes of 8 bits, and train on at least 40 vectors for each cell and code.
for pieces in (32, 128, 256):
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(encoder.dimension), encoder.dimension, 8, pieces, 4, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 5  # so few would else be warned of
    index.train(vectors)
    index.add(vectors)
    for nprobe in (2, 8):
        found = index.search(queries, 10, params=faiss.SearchParametersIVF(nprobe=nprobe))[1]
        print(f"{pieces // 2:>4} bytes, nprobe={nprobe}: recall@10 against exact search {recall_at(found, truth):.2f}")

# Codes are for finding candidates; put them in their exact order with the vectors themselves.
refined = faiss.IndexRefineFlat(index, faiss.swig_ptr(vectors))
refined.k_factor = 4
index.nprobe = 8
found = refined.search(queries, 10)[1]
print(f"40 candidates from the last index, sorted exactly: recall@10 {recall_at(found, truth):.2f}")
