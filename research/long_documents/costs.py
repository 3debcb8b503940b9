"""Measure what a long document costs: processor time and memory by its length, beside the same text as short passages.

    python -m research.long_documents.costs --lengths 2000,8000,32000

The text is documentation of Python's standard library, put together until it has so many tokens. It is embedded as one
vector (``on_truncate="split"``), as late chunks of a hundred words (``encode_chunks``), and as the same chunks each by
itself. Each of these runs in a process of its own, because memory is a property of a process. Printed are the seconds
of processor time for a thousand tokens, those over the chunks' alone, and by how many MB the process grew at most
after it had embedded a short text.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.costs import passages
from echo_embeddings import EchoEncoder

from .meetings import spans

__all__ = ["main"]

ALONE, LATE, SPLIT = "chunks alone", "late chunks", "one vector (split)"
#: Words of a chunk.
WORDS = 100


def document(tokens: int, encoder: EchoEncoder) -> str:
    """Documentation of about so many tokens."""
    parts, found = [], 0
    for text, count in zip(some := passages(tokens // 20), encoder.count_tokens(some), strict=True):
        if found >= tokens:
            break
        parts.append(text)
        found += count
    return "\n\n".join(parts)


def cost(model: str | None, way: str, tokens: int) -> tuple[int, float, float]:
    """The tokens of the document, the seconds of processor time, and the MB by which this process grew."""
    encoder = EchoEncoder(model, on_truncate="split", dtype="float32")
    text = document(tokens, encoder)
    chunks = spans(text, WORDS)
    encoder.encode_documents([text[:2000]])
    count, before, started = encoder.count_tokens(text)[0], peak(), time.process_time()
    if way == SPLIT:
        encoder.encode_documents([text])
    elif way == LATE:
        encoder.encode_chunks(text, chunks)
    else:
        encoder.encode_documents([text[first:stop] for first, stop in chunks])
    return count, time.process_time() - started, peak() - before


def peak() -> float:
    """The most MB that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="2000,8000,32000", help="tokens of the document (%(default)s)")
    parser.add_argument("--model", help="instead of the built-in model")
    given = parser.parse_args(argv)
    print("| tokens | way | seconds for 1,000 tokens | over chunks alone | MB more |\n| --: | --- | --: | --: | --: |")
    for tokens in map(int, given.lengths.split(",")):
        alone = 0.0
        for way in (ALONE, LATE, SPLIT):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                count, seconds, grown = pool.submit(cost, given.model, way, tokens).result()
            alone = alone or seconds
            rate, ratio = 1000 * seconds / count, seconds / alone
            print(f"| {count:,} | {way} | {rate:.1f} | {ratio:.2f} | {grown:.0f} |", flush=True)


if __name__ == "__main__":
    main()
