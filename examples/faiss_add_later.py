"""Save an index, load it in another run, and add, update and remove passages under ids that stay."""

import hashlib
import json
import tempfile
from pathlib import Path

import faiss
import numpy as np
from stdlib_passages import QUESTIONS, load_docs

from echo_embeddings import EchoEncoder


def stable_id(name: str) -> int:
    """The same name has the same id in every run; two names have different ones for all that chance allows."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def ids_of(docs):
    return np.array([stable_id(f"{doc.module}.{doc.name}") for doc in docs], dtype=np.int64)


docs = load_docs(300)
folder = Path(tempfile.mkdtemp())

# The first run: 250 passages. What made the vectors is kept beside them.
encoder = EchoEncoder()
index = faiss.IndexIDMap2(faiss.IndexFlatIP(encoder.dimension))
index.add_with_ids(encoder.encode_documents([doc.text for doc in docs[:250]]), ids_of(docs[:250]))
faiss.write_index(index, str(folder / "passages.faiss"))
(folder / "made_by.json").write_text(json.dumps({"model": encoder.model_name, "config": encoder.config.fingerprint()}))
print(f"first run: saved {index.ntotal} passages")

# Another run, another day. Vectors of another config must not be mixed in.
encoder = EchoEncoder()
made_by = json.loads((folder / "made_by.json").read_text())
if made_by != {"model": encoder.model_name, "config": encoder.config.fingerprint()}:
    raise SystemExit("the index was made by another model or config: embed the passages again")
index = faiss.read_index(str(folder / "passages.faiss"))

index.add_with_ids(encoder.encode_documents([doc.text for doc in docs[250:]]), ids_of(docs[250:]))
print(f"second run: {index.ntotal} passages after adding {len(docs) - 250}")

# A passage has changed: take the old vector out, put the new one in, under the same id.
changed, text = docs[7], f"{docs[7].text} Since then this has been written anew."
index.remove_ids(ids_of([changed]))
index.add_with_ids(encoder.encode_documents([text]), ids_of([changed]))
same = float(index.reconstruct(int(ids_of([changed])[0])) @ encoder.encode_documents(text))
print(f"updated {changed.module}.{changed.name}: still {index.ntotal} passages, its vector is the new one ({same:.2f})")
faiss.write_index(index, str(folder / "passages.faiss"))

by_id = dict(zip(ids_of(docs).tolist(), docs, strict=True))
for question in QUESTIONS[:3]:
    _, found = index.search(encoder.encode_queries([question]), 1)
    print(f"{question}\n  {' '.join(by_id[int(found[0, 0])].text.split())[:90]}")
