"""Queries and documents have templates of their own: what goes wrong when they are swapped."""

import faiss
import numpy as np
from stdlib_passages import load_docs

from echo_embeddings import EchoConfig, EchoEncoder, Template

# What a docstring says first is the question; what it says after that is the passage to find.
docs = load_docs(120, with_rest=True)
questions = [doc.text.partition(": ")[2] for doc in docs]
passages = [doc.rest for doc in docs]

config = EchoConfig.preset("zero-shot").replace(
    template=Template("Passage of a manual: {text}\nThe same passage of a manual: {text}"),
    query_template=Template("{instruction}: {text}\nAgain: {text}", instruction="A programmer wants a way to"),
)
encoder = EchoEncoder(config=config)


def measure(query_vectors, document_vectors):
    """How often the right passage is first, how often among ten, and nDCG@10."""
    index = faiss.IndexFlatIP(encoder.dimension)
    index.add(document_vectors)
    _, rows = index.search(query_vectors, 10)
    hits = rows == np.arange(len(rows))[:, None]
    ndcg = (hits / np.log2(np.arange(2, 12))).sum(axis=1).mean()
    return f"first {hits[:, 0].mean():.3f}   among ten {hits.any(axis=1).mean():.3f}   nDCG@10 {ndcg:.3f}"


right = encoder.encode_queries(questions), encoder.encode_documents(passages)
swapped = encoder.encode_documents(questions), encoder.encode_queries(passages)
print(f"{len(docs)} questions, {len(docs)} passages")
print("each with its own template:         ", measure(*right))
print("both with the document's template:  ", measure(swapped[0], right[1]))
print("both with the query's template:     ", measure(right[0], swapped[1]))
print("swapped:                            ", measure(*swapped))
# The templates differ little in what they ask, so a swap costs little here; but an index must stay with one of them.
moved = (right[1] * swapped[1]).sum(axis=1)
print(f"a passage's vectors under the two templates have a cosine of {moved.mean():.2f}: they are not interchangeable")
