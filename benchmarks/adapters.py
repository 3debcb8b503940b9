"""Measure what each framework's class adds to the time of ``EchoEncoder``, on the same passages.

    python -m benchmarks.adapters --texts 2000

All use one model in memory and take turns, so only the way to it differs. Shown is the median over the rounds of the
time divided by the encoder's own time in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from echo_embeddings import EchoEncoder
from langchain_echo_embeddings import EchoEmbeddings
from llama_index.embeddings.echo import EchoEmbedding
from sentence_transformers_echo import from_encoder

from .costs import passages

__all__ = ["main"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2000, help="passages (2000)")
    parser.add_argument("--words", type=int, default=20, help="words of each passage, from its beginning (20)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each takes its turn (3)")
    arguments = parser.parse_args(argv)
    texts = [" ".join(text.split()[: arguments.words]) for text in passages(arguments.texts)]
    encoder = EchoEncoder()
    model = from_encoder(encoder)
    ways: dict[str, Callable[[], object]] = {
        "EchoEncoder": lambda: encoder.encode_documents(texts),
        "LangChain": lambda: EchoEmbeddings(encoder=encoder).embed_documents(texts),
        "LlamaIndex": lambda: EchoEmbedding(encoder=encoder).get_text_embedding_batch(texts),
        "sentence-transformers, batch_size=256": lambda: model.encode_document(texts, batch_size=256),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    encoder.encode_documents(texts[:50])  # the first pass pays for what is set up once
    for _ in range(arguments.rounds):
        for name, embed in ways.items():
            started = time.perf_counter()
            embed()
            seconds[name].append(time.perf_counter() - started)
    print(f"{len(texts)} passages of {arguments.words} words\n\n| way | time over the encoder's |\n| --- | --: |")
    for name, own in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(own, seconds["EchoEncoder"], strict=True))
        print(f"| {name} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
