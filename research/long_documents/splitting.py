"""Does reading all of a text (``on_truncate="split"``) ever find less than reading its beginning (``"warn"``)?

    python -m research.long_documents.splitting DEV/retrieval/med DEV/retrieval/squad_devA --output vectors.npz

Texts that fit have the same vectors either way, bit for bit. So of each data set only texts that do not fit are taken,
as many as ``--documents``, with as many short ones and the questions that have a relevant text among them. Scores are
nDCG@10, times 100; the spread of the difference is that over questions (bootstrap). Vectors are kept in the output.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from echo_embeddings import EchoEncoder
from echo_embeddings.evaluation.datasets import Retrieval, open_dataset
from echo_embeddings.evaluation.metrics import ndcg_at_10

from .common import Kept, Numbers, margin

__all__ = ["main", "sample"]

#: No text with fewer characters has more tokens than an encoder reads.
SHORTEST = 512


def sample(data: Retrieval, encoder: EchoEncoder, count: int) -> tuple[Retrieval, int, int]:
    """Drawn texts that do not fit, as many that do, and their questions.

    Returns:
        These; how many of the texts do not fit; and how many of all.
    """
    names = sorted(data.documents)
    random.Random(0).shuffle(names)  # noqa: S311 - no secret
    candidates = [name for name in names if len(data.documents[name]) > SHORTEST]
    tokens = encoder.count_tokens([data.documents[name] for name in candidates])
    long = [name for name, number in zip(candidates, tokens, strict=True) if number > encoder.max_length]
    asked = {name for own in data.judgements.values() for name, grade in own.items() if grade > 0}
    taken = sorted(long, key=lambda name: name not in asked)[:count]
    short = [name for name in names if name not in set(long)]
    chosen = {*taken, *sorted(short, key=lambda name: name not in asked)[:count]}
    judgements = {}
    for query, own in data.judgements.items():
        few = {name: grade for name, grade in own.items() if name in chosen}
        if max(few.values(), default=0) > 0:
            judgements[query] = few
    documents = {name: data.documents[name] for name in sorted(chosen)}
    return Retrieval(documents, {query: data.queries[query] for query in judgements}, judgements), len(taken), len(long)


def measured(
    keep: Kept, name: str, ways: Mapping[str, EchoEncoder], data: Retrieval, asked: list[str]
) -> dict[str, Numbers]:
    """nDCG@10 of each question, for each way."""
    texts, ids = list(data.documents.values()), list(data.documents)
    queries = keep(f"{name} queries", lambda: ways["ignore"].encode_queries([data.queries[one] for one in asked]))
    found = {}
    for way, encoder in ways.items():
        scores = queries @ keep(f"{name} {way}", partial(encoder.encode_documents, texts)).T
        each = [ndcg_at_10(row, ids, data.judgements[one]) for row, one in zip(scores, asked, strict=True)]
        found[way] = np.array(each)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="folders in the layout of BEIR")
    parser.add_argument("--output", type=Path, required=True, help="a .npz file that keeps the vectors")
    parser.add_argument("--documents", type=int, default=10, help="long ones, and short ones, of a set (%(default)s)")
    parser.add_argument("--questions", type=int, default=60, help="the most of a set (%(default)s)")
    arguments = parser.parse_args(argv)
    keep = Kept(arguments.output)
    ways = {way: EchoEncoder(on_truncate=way) for way in ("ignore", "split")}
    rows = ["| data set | too long | here | questions | warn | split | difference |", "| --- |" + " --: |" * 6]
    for folder in arguments.data:
        opened = open_dataset(folder)
        if not isinstance(opened, Retrieval):
            parser.error(f"{folder} is no folder in the layout of BEIR")
        data, here, every = sample(opened, ways["ignore"], arguments.documents)
        asked = list(data.judgements)[: arguments.questions]
        found = measured(keep, folder.name, ways, data, asked)
        means = " | ".join(f"{100 * found[way].mean():.1f}" for way in ways)
        difference = margin(found["split"], found["ignore"], range(len(asked)))
        rows.append(f"| {folder.name} | {every} | {here} | {len(asked)} | {means} | {difference} |")
        print(rows[-1], flush=True)
    print("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
