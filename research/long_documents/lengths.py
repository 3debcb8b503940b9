"""Find the meeting that a question is about, when more and more of each meeting is kept, with several configs.

    python -m research.long_documents.lengths DEV/retrieval/qmsum_val_long --output vectors.npz --plot lengths.svg

Question: from which length on is it worth to read more than the beginning, and in which way, with which config?

Of each document only the first words are kept, as many as the length says. Ways: its beginning (as many tokens as the
config reads), all of it as one vector (``on_truncate="split"``), its chunks of 100 words, each embedded alone, and the
same chunks by ``encode_chunks``. A document's score is that of its vector, or the mean of its best three chunks. BM25
stands beside. Scores are nDCG@10, times 100, with their spread over questions (bootstrap). Vectors are kept in the
output: started again, it goes on with what is missing.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np

from echo_embeddings import EchoEncoder
from echo_embeddings.evaluation.datasets import Retrieval, open_dataset
from echo_embeddings.types import Vectors
from research.paper.figures import lines

from .common import Kept, Numbers, spread
from .meetings import each_question, lexical, scored, spans, subset

__all__ = ["WAYS", "first_words", "main", "vectors"]

#: Words that are kept of each document.
LENGTHS = (400, 800, 1600, 3200)
WAYS = ("beginning", "split", "chunks alone", "late chunks")
#: Words of a chunk; every length is so many chunks. And how many of the best chunks are averaged.
CHUNK, BEST = 100, 3


def first_words(text: str, count: int) -> str:
    """A text up to the end of so many words."""
    places = [found.end() for found in re.finditer(r"\S+", text)]
    return text[: places[count - 1]] if len(places) > count else text


def vectors(keep: Kept, config: str, way: str, length: int, documents: Sequence[str]) -> list[Vectors]:
    """The vectors of each document, ``[chunks, dim]``; one row where a way has one vector."""
    encoder = encoder_of(config, way)
    texts = [first_words(text, length) for text in documents]
    own = [spans(text, CHUNK) for text in texts]
    if way not in ("chunks alone", "late chunks"):
        name = way if way == "beginning" else f"{way} {length}"  # a beginning is the same, however much stands behind
        return list(keep(f"{config} {name}", partial(encoder.encode_documents, texts))[:, None])
    parts = [text[first:stop] for text, some in zip(texts, own, strict=True) for first, stop in some]
    if way == "late chunks":
        rows = keep(f"{config} {way} {length}", lambda: np.concatenate(encoder.encode_chunks(texts, own)))
    else:
        rows = keep(f"{config} {way} {length}", partial(encoder.encode_documents, parts))
    return np.split(rows, np.cumsum([len(some) for some in own])[:-1])


def encoder_of(config: str, way: str) -> EchoEncoder:
    """The built-in model with a preset, or with its own config for ``"default"``."""
    on_truncate = "split" if way == "split" else "ignore"
    return EchoEncoder(config=None if config == "default" else config, on_truncate=on_truncate)


def table(found: Mapping[tuple[str, str, int], Numbers], lengths: Sequence[int]) -> str:
    """A row for each config and way, a column for each length."""
    rows = ["| config | way | " + " | ".join(f"{length:,} words" for length in lengths) + " |"]
    rows.append("| --- | --- |" + " --: |" * len(lengths))
    for config, way in dict.fromkeys((config, way) for config, way, _ in found):
        cells = [f"{100 * each.mean():.1f} ± {100 * spread(each, range(len(each))):.1f}" for each in
                 (found[config, way, length] for length in lengths)]  # fmt: skip
        rows.append(f"| {config} | {way} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder in the layout of BEIR")
    parser.add_argument("--output", type=Path, required=True, help="a .npz file that keeps the vectors")
    parser.add_argument("--plot", type=Path, help="draw the curves into this .svg")
    parser.add_argument("--documents", type=int, default=8, help="how many documents are drawn (%(default)s)")
    parser.add_argument("--configs", default="default,late-echo,classical,echo", help="(%(default)s)")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="words that are kept (%(default)s)")
    arguments = parser.parse_args(argv)
    opened = open_dataset(arguments.data)
    if not isinstance(opened, Retrieval):
        parser.error(f"{arguments.data} is no folder in the layout of BEIR")
    data, keep = subset(opened, arguments.documents), Kept(arguments.output)
    documents, lengths = list(data.documents.values()), [int(one) for one in arguments.lengths.split(",")]
    # The longest first: the beginning is embedded once, from the longest.
    found: dict[tuple[str, str, int], Numbers] = {}
    for config in arguments.configs.split(","):
        asked = partial(encoder_of(config, "beginning").encode_queries, list(data.queries.values()))
        queries = keep(f"{config} queries", asked)
        for way in WAYS:
            for length in sorted(lengths, reverse=True):
                of_each = vectors(keep, config, way, length, documents)
                found[config, way, length] = each_question(data, scored(queries, of_each, BEST))
        print("\n" + table({key: each for key, each in found.items() if key[0] == config}, lengths), flush=True)
    for length in lengths:
        kept = {name: first_words(text, length) for name, text in data.documents.items()}
        found["", "BM25", length] = each_question(data, lexical(Retrieval(kept, data.queries, data.judgements)))
    print(f"\n{len(documents)} documents, {len(data.queries)} questions\n\n{table(found, lengths)}")
    if arguments.plot:
        draw(arguments.plot, found, lengths)


def draw(path: Path, found: Mapping[tuple[str, str, int], Numbers], lengths: Sequence[int]) -> None:
    """A panel for each config, a line for each way."""
    panels = {
        config: {
            way: (lengths, [100 * float(found[of, way, length].mean()) for length in lengths])
            for of, way in ((config, "beginning"), *((config, way) for way in WAYS[1:]), ("", "BM25"))
        }
        for config in dict.fromkeys(config for config, _, _ in found if config)
    }
    with mpl.rc_context({"svg.hashsalt": "echo", "svg.fonttype": "none"}):  # equal values have an equal file
        figure = lines(panels, "words of a document", "nDCG@10 x100", log=True)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
