"""Measure what smaller vectors cost: the tables of docs/guides/smaller-vectors.md are made by this command.

    python -m benchmarks.precision DEV --limit 25
    python -m benchmarks.precision DEV --limit 25 --distractors 20000

DEV is as for benchmarks.quality. ``--limit N`` takes N queries of each retrieval set and ten documents for each of
them. Texts are embedded once; each precision and number of dimensions is made of those vectors, which ``--vectors
FOLDER`` keeps. Scores are nDCG@10 of the retrieval sets, times 100. Rows:

- ``int8``, ``float16``: documents are kept so, and questions are compared as they are: what an ``Index`` does.
- ``ubinary``: what an ``Index`` does with a bit a dimension: the questions' own numbers decide among the 200 nearest.
- ``ubinary, all``: the same, but the questions' own numbers are compared with all documents.
- ``ubinary, both``: bits of documents and of questions, and nothing else: what a server of bits does.

``--distractors N`` puts N further vectors beside the documents of each set. Each has the echo of one document and the
words of another, both drawn from all the sets: to embed as many texts would take hours. A document that is judged
relevant gives neither.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import RETRIEVAL
from echo_embeddings import EchoEncoder, Lexical
from echo_embeddings.evaluation.datasets import Retrieval, open_dataset
from echo_embeddings.search.vectors import Bits
from echo_embeddings.types import DTYPES, Vectors, width
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.precision import Ranges, reduced, restored

__all__ = ["distractors", "main", "scores"]

ROWS = ("float32", "float16", "int8", "ubinary", "ubinary, all", "ubinary, both")


def scores(documents: Vectors, queries: Vectors, ranges: Ranges, row: str) -> NDArray[np.float32]:
    """How near each document is to each query in a row of the table: ``[documents, queries]``."""
    precision, _, how = row.partition(", ")
    dimension = documents.shape[1]
    limits = ranges.of(dimension)

    def small(vectors: Vectors) -> Vectors:
        return restored(reduced(vectors, precision, limits, turns=True), precision, dimension, limits, turns=True)

    if row != "ubinary":
        found: NDArray[np.float32] = small(documents) @ (small(queries) if how == "both" else queries).T
        return found
    index = Bits(dimension)
    index.add(documents)
    near, numbers = index.search(queries, 10)
    found = np.full((len(documents), len(queries)), -1, dtype=np.float32)
    found[numbers, np.arange(len(queries))[:, None]] = near
    return found


def distractors(parts: list[Vectors], lexical: Lexical, count: int) -> Vectors:
    """Vectors with the echo of one document and the words of another: ``[count, dim]``.

    Args:
        parts: vectors of documents, ``[n, dim]`` each.
        lexical: says which dimensions are the words'.
        count: how many.
    """
    vectors = np.concatenate(parts)
    echo = vectors.shape[1] - lexical.dimension
    is_word = np.concatenate(lexical.beside(np.zeros(echo, bool), np.ones(lexical.dimension, bool)))
    drawn = np.random.default_rng(0).integers(len(vectors), size=(2, count))
    return unit(np.where(is_word, vectors[drawn[0]], vectors[drawn[1]]))


def embedded(encoder: EchoEncoder, dataset: Retrieval, kept: Path | None) -> tuple[Vectors, Vectors]:
    """The vectors of a set's documents and queries, from a file if it is there."""
    if kept is not None and kept.exists():
        with np.load(kept) as found:
            return found["documents"], found["queries"]
    documents, queries = (
        encode(texts)
        for encode, texts in zip((encoder.encode_documents, encoder.encode_queries), dataset.texts, strict=True)
    )
    if kept is not None:
        np.savez(kept, documents=documents, queries=queries)
    return documents, queries


def irrelevant(dataset: Retrieval, documents: Vectors) -> Vectors:
    """The vectors of documents that no query is judged to want."""
    judged = [name for grades in dataset.judgements.values() for name, grade in grades.items() if grade > 0]
    wanted = {dataset.documents[name] for name in judged if name in dataset.documents}
    return documents[[text not in wanted for text in dataset.texts[0]]]


def with_distractors(dataset: Retrieval, count: int) -> Retrieval:
    """The set with so many further documents, behind its own."""
    further = {name: name for name in (f"distractor {i}" for i in range(count))}
    return replace(dataset, documents=dataset.documents | further)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path, help="folder of development sets")
    parser.add_argument("--limit", type=int, help="queries of each retrieval set (default: all)")
    parser.add_argument("--dimensions", default="1024,512,256", help="numbers of dimensions (%(default)s)")
    parser.add_argument("--sets", default=",".join(RETRIEVAL), help="retrieval sets (%(default)s)")
    parser.add_argument("--distractors", type=int, default=0, help="further documents in each set (0)")
    parser.add_argument("--vectors", type=Path, help="folder that keeps the vectors of each set")
    arguments = parser.parse_args(argv)
    encoder = EchoEncoder(on_truncate="ignore", max_length=128)
    ranges, lexical = encoder.config.ranges, encoder.config.lexical
    if ranges is None or lexical is None:
        parser.error("the default config has no ranges or no words; run research.default_model.step_10_ranges")
    sets: list[tuple[Retrieval, Vectors, Vectors]] = []
    for name in arguments.sets.split(","):
        dataset = open_dataset(arguments.dev / "retrieval" / name, arguments.limit)
        if not isinstance(dataset, Retrieval):
            parser.error(f"{name} is no retrieval set")
        kept = arguments.vectors and arguments.vectors / f"{name}.npz"
        sets.append((dataset, *embedded(encoder, dataset, kept)))
        print(f"{name}: {dataset.size}", flush=True)
    parts = [irrelevant(dataset, documents) for dataset, documents, _ in sets]
    further = distractors(parts, lexical, arguments.distractors)
    found: dict[tuple[int, str], list[float]] = {}
    for dataset, documents, queries in sets:
        larger = with_distractors(dataset, len(further))
        for dimension in map(int, arguments.dimensions.split(",")):
            pair = [unit(of[:, :dimension]) for of in (np.concatenate([documents, further]), queries)]
            for row in ROWS:
                of_row = scores(pair[0], pair[1], ranges, row)
                # Vectors whose inner products are these scores.
                value = larger.score(of_row, np.eye(len(queries), dtype=np.float32))
                found.setdefault((dimension, row), []).append(value)
    print("\n| dimensions | precision | bytes | nDCG@10 | kept |\n| --: | --- | --: | --: | --: |")
    for (dimension, row), values in found.items():
        precision = row.partition(",")[0]
        size = width(dimension, precision) * DTYPES[precision].itemsize
        kept_share = np.mean(values) / np.mean(found[dimension, "float32"])
        print(f"| {dimension} | {row} | {size} | {np.mean(values):.1f} | {100 * kept_share:.1f} % |")


if __name__ == "__main__":
    main()
