"""Find the meeting that a question is about, by every way to embed a document that is longer than the model reads.

    python -m research.long_documents.meetings DEV/retrieval/qmsum_val_long --output vectors.npz --documents 20

Question: which vectors of a document of 9,000 words find it best, and is it found as well as by BM25?

Ways to embed: the beginning alone (``on_truncate="warn"``), all of it as one vector (``"split"``), its chunks each
alone, and its chunks by ``encode_chunks``, which have seen what stands around them. A document's score from those of
its chunks: the best chunk, the mean of the best few, the mean of all. Vectors are kept in the output: started again, it
goes on with what is missing. Scores are nDCG@10, times 100, with the standard deviation of the mean over questions
(bootstrap).
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import bm25s
import numpy as np

from echo_embeddings import EchoEncoder
from echo_embeddings.data.files import whole_file
from echo_embeddings.evaluation.datasets import Retrieval, open_dataset
from echo_embeddings.evaluation.metrics import ndcg_at_10
from echo_embeddings.types import Vectors

from .common import Numbers

__all__ = ["main", "spans"]

#: How a document's score is made of those of its chunks: how many of the best are averaged; ``None`` for all.
BEST: dict[str, int | None] = {"best chunk": 1, "best 2": 2, "best 3": 3, "best 5": 5, "best 10": 10, "all": None}
DRAWS = 1000
Scores = Vectors


def spans(text: str, words: int) -> list[tuple[int, int]]:
    """Split a text into chunks of so many words, side by side."""
    places = [(found.start(), found.end()) for found in re.finditer(r"\S+", text)]
    return [(some[0][0], some[-1][1]) for some in (places[i : i + words] for i in range(0, len(places), words))]


def subset(data: Retrieval, count: int | None) -> Retrieval:
    """So many of the documents, drawn, with the questions that have a relevant one among them."""
    names = sorted(data.documents)
    random.Random(0).shuffle(names)  # noqa: S311 - no secret
    documents = {name: data.documents[name] for name in sorted(names[:count])}
    judgements = {
        query: own
        for query, judged in data.judgements.items()
        if (own := {name: grade for name, grade in judged.items() if name in documents})
    }
    return Retrieval(documents, {query: data.queries[query] for query in judgements}, judgements)


def embedded(
    ways: list[str], documents: list[str], words: int, length: int | None
) -> Iterator[tuple[str, list[Vectors]]]:
    """For each way the vectors of each document ``[chunks, dim]``, as soon as they are there."""
    own = [spans(text, words) for text in documents]
    for way in ways:
        encoder = EchoEncoder(on_truncate="split" if way == "split" else "ignore", max_length=length)
        found: list[Vectors] = []
        for text, chunks in zip(documents, own, strict=True):
            if way == "late chunks":
                found.append(encoder.encode_chunks(text, chunks))
            elif way == "chunks alone":
                found.append(encoder.encode_documents([text[first:stop] for first, stop in chunks]))
            else:
                found.append(encoder.encode_documents([text]))
            print(f"{way}: {len(found)} of {len(documents)}", flush=True)
        yield way, found


def scored(queries: Vectors, documents: list[Vectors], best: int | None) -> Scores:
    """Scores ``[queries, documents]``: the mean of the best chunks of each document."""
    columns = []
    for chunks in documents:
        cosines = np.sort(queries @ chunks.T, axis=1)[:, ::-1]
        columns.append(cosines[:, :best].mean(axis=1))
    return np.stack(columns, axis=1)


def lexical(data: Retrieval) -> Scores:
    """Scores by BM25 with its usual numbers and an English stemmer-free tokenizer."""
    searched = bm25s.BM25()
    searched.index(bm25s.tokenize(list(data.documents.values()), show_progress=False), show_progress=False)
    names = [bm25s.tokenize([text], return_ids=False, show_progress=False)[0] for text in data.queries.values()]
    return np.stack([searched.get_scores(words) for words in names]).astype(np.float32)


def each_question(data: Retrieval, scores: Scores) -> Numbers:
    """nDCG@10 of each question."""
    ids, judged = list(data.documents), data.judgements.values()
    return np.array([ndcg_at_10(row, ids, own) for row, own in zip(scores, judged, strict=True)])


def report(data: Retrieval, name: str, scores: Scores) -> None:
    """Print one row of the table."""
    each = each_question(data, scores)
    rng = np.random.default_rng(0)
    spread = np.std([each[rng.integers(0, len(each), len(each))].mean() for _ in range(DRAWS)])
    print(f"| {name} | {100 * each.mean():.1f} ± {100 * spread:.1f} |")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder in the layout of BEIR")
    parser.add_argument("--output", type=Path, required=True, help="a .npz file that keeps the vectors")
    parser.add_argument("--documents", type=int, help="how many documents are drawn (default: all)")
    parser.add_argument("--words", type=int, default=100, help="words of a chunk (%(default)s)")
    parser.add_argument("--max-length", type=int, help="tokens that the model reads at once (default: the config's)")
    parser.add_argument("--ways", default="beginning,late chunks,chunks alone,split", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    opened = open_dataset(arguments.data)
    if not isinstance(opened, Retrieval):
        parser.error(f"{arguments.data} is no folder in the layout of BEIR")
    data = subset(opened, arguments.documents)
    kept = dict(np.load(arguments.output)) if arguments.output.exists() else {}
    documents, queries = list(data.documents.values()), list(data.queries.values())

    def keep(name: str, make: Callable[[], Vectors]) -> None:
        if name not in kept:
            kept[name] = make()
            with whole_file(arguments.output) as path, path.open("wb") as file:
                np.savez(file, **kept)

    keep("queries", lambda: EchoEncoder().encode_queries(queries))
    missing = [way for way in arguments.ways.split(",") if f"{way} 0" not in kept]
    for way, found in embedded(missing, documents, arguments.words, arguments.max_length):
        kept |= {f"{way} {i}": vectors for i, vectors in enumerate(found[1:], start=1)}
        keep(f"{way} 0", lambda: found[0])  # noqa: B023 - called at once
    print(f"\n{len(documents)} documents, {len(queries)} questions\n\n| way | nDCG@10 |\n| --- | --: |")
    report(data, "BM25", lexical(data))
    for way in arguments.ways.split(","):
        of_each = [kept[f"{way} {i}"] for i in range(len(documents))]
        several = max(map(len, of_each)) > 1
        for name, best in BEST.items() if several else [("", 1)]:
            report(data, f"{way} {name}".rstrip(), scored(kept["queries"], of_each, best))


if __name__ == "__main__":
    main()
