"""Measure what smaller vectors cost: the table of docs/guides/smaller-vectors.md is made by this command.

    python -m benchmarks.precision DEV --limit 25

DEV is as for benchmarks.quality. ``--limit N`` takes N queries of each retrieval set and ten documents for each of
them. Texts are embedded once; each precision and number of
dimensions is made of those vectors. Scores are nDCG@10 of the retrieval sets, times 100. Rows:

- ``int8``, ``float16``: documents are kept so, and questions are compared as they are: what an ``Index`` does.
- ``ubinary``: the same with a bit a dimension; the questions' own numbers decide among the nearest.
- ``ubinary, both``: bits of documents and of questions, and nothing else: what a server of bits does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.quality import RETRIEVAL
from echo_embeddings import EchoEncoder
from echo_embeddings.evaluation.datasets import open_dataset
from echo_embeddings.types import DTYPES, Vectors, width
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.precision import Ranges, reduced, restored

__all__ = ["main", "rows"]

ROWS = ("float32", "float16", "int8", "ubinary", "ubinary, both")


def rows(documents: Vectors, queries: Vectors, ranges: Ranges) -> dict[str, tuple[Vectors, Vectors]]:
    """The vectors of documents and queries that each row compares."""
    dimension = documents.shape[1]
    limits = ranges.of(dimension)

    def small(vectors: Vectors, precision: str) -> Vectors:
        return restored(reduced(vectors, precision, limits), precision, dimension, limits)

    found = {name: (small(documents, name), queries) for name in ROWS[:-1]}
    return found | {ROWS[-1]: (small(documents, "ubinary"), small(queries, "ubinary"))}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path, help="folder of development sets")
    parser.add_argument("--limit", type=int, help="queries of each retrieval set (default: all)")
    parser.add_argument("--dimensions", default="1024,512,256", help="numbers of dimensions (%(default)s)")
    arguments = parser.parse_args(argv)
    encoder = EchoEncoder(on_truncate="ignore", max_length=128)
    ranges = encoder.config.ranges
    if ranges is None:
        parser.error("the default config has no ranges; run research.default_model.step_10_ranges")
    scores: dict[tuple[int, str], list[float]] = {}
    for name in RETRIEVAL:
        dataset = open_dataset(arguments.dev / "retrieval" / name, arguments.limit)
        texts = dataset.texts
        whole = encoder.encode_documents(texts[0]), encoder.encode_queries(texts[1])
        for dimension in map(int, arguments.dimensions.split(",")):
            for row, pair in rows(*(unit(vectors[:, :dimension]) for vectors in whole), ranges).items():
                scores.setdefault((dimension, row), []).append(dataset.score(*pair))
        print(f"{name}: {dataset.size}", flush=True)
    print("\n| dimensions | precision | bytes | nDCG@10 | kept |\n| --: | --- | --: | --: | --: |")
    for (dimension, row), found in scores.items():
        precision = row.partition(",")[0]
        size = width(dimension, precision) * DTYPES[precision].itemsize
        kept = np.mean(found) / np.mean(scores[dimension, "float32"])
        print(f"| {dimension} | {row} | {size} | {np.mean(found):.1f} | {100 * kept:.1f} % |")


if __name__ == "__main__":
    main()
