"""Index a folder with FAISS and ask it, in plain Python. Run: python examples/search_files.py [FOLDER] [QUESTION]."""

import sys
from pathlib import Path

import faiss

from echo_embeddings import EchoEncoder

root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
question = sys.argv[2] if len(sys.argv) > 2 else "May I sell software that contains this code?"

# The paragraphs of the README, the license and the like, each with the place it stands at.
passages: list[tuple[str, str]] = []
for path in sorted([*root.glob("*.md"), *root.glob("*.txt"), *root.glob("LICENSE")]):
    for number, paragraph in enumerate(path.read_text(encoding="utf-8").split("\n\n"), start=1):
        if len(paragraph.split()) > 5:
            passages.append((f"{path.name}, paragraph {number}", paragraph.strip()))
if not passages:
    sys.exit(f"{root} has no .md or .txt files with paragraphs; give another folder")

encoder = EchoEncoder()
print(f"Embedding {len(passages)} paragraphs of {root.resolve()} ...")
vectors = encoder.encode_documents([text for _, text in passages])

# Vectors have unit length, so the inner product is the cosine. Keep the index with faiss.write_index.
index = faiss.IndexFlatIP(encoder.dimension)
index.add(vectors)

print(f"\n{question}\n")
scores, rows = index.search(encoder.encode_queries([question]), min(3, len(passages)))
for score, row in zip(scores[0], rows[0], strict=True):
    source, text = passages[row]
    print(f"{score:.3f}  {source}\n       {' '.join(text.split())[:200]}\n")
