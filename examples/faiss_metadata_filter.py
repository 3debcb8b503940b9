"""Search among some passages only: filter by metadata inside FAISS, not after it."""

import faiss
import numpy as np
from stdlib_passages import load_docs

from echo_embeddings import EchoEncoder

docs = load_docs(300)
encoder = EchoEncoder()
index = faiss.IndexFlatIP(encoder.dimension)
index.add(encoder.encode_documents([doc.text for doc in docs]))


def search(question, k=3, **wanted):
    """The best ``k`` passages whose attributes are as wanted, e.g. ``module="zipfile"``."""
    rows = [row for row, doc in enumerate(docs) if all(getattr(doc, key) == value for key, value in wanted.items())]
    # Filtering what an unfiltered search found would return fewer than k, or none.
    selector = faiss.IDSelectorBatch(np.array(rows, dtype=np.int64))
    scores, found = index.search(
        encoder.encode_queries([question]), min(k, len(rows)), params=faiss.SearchParameters(sel=selector)
    )
    return [(float(score), docs[row]) for score, row in zip(scores[0], found[0], strict=True)]


question = "open a file for reading"
for wanted in ({}, {"module": "zipfile"}, {"module": "tarfile"}, {"module": "pathlib"}):
    print(f"\n{question!r}, {wanted or 'everywhere'}:")
    for score, doc in search(question, **wanted):
        assert all(getattr(doc, key) == value for key, value in wanted.items())
        print(f"  {score:.2f}  {' '.join(doc.text.split())[:90]}")
