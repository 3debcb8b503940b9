"""What an adapter costs over ``EchoEncoder`` itself: the same passages through each, taking turns.

    python scripts/bench_adapters.py --texts 2000

One model in memory serves all, so only the way there differs. Shown is the median over rounds of the ratio to the
encoder's time in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from bench import texts

from echo_embeddings import EchoEncoder
from langchain_echo_embeddings import EchoEmbeddings
from llama_index.embeddings.echo import EchoEmbedding
from sentence_transformers_echo import from_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--words", type=int, default=20, help="words of each passage")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    passages = [" ".join(text.split()[: arguments.words]) for text in texts(arguments.texts)["passages"]]
    encoder = EchoEncoder()
    model = from_encoder(encoder)
    ways: dict[str, Callable[[], object]] = {
        "EchoEncoder": lambda: encoder.encode_documents(passages),
        "LangChain": lambda: EchoEmbeddings(encoder=encoder).embed_documents(passages),
        "LlamaIndex": lambda: EchoEmbedding(encoder=encoder).get_text_embedding_batch(passages),
        "sentence-transformers, batch_size=256": lambda: model.encode_document(passages, batch_size=256),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    encoder.encode_documents(passages[:50])
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    print(f"{len(passages)} passages of {arguments.words} words\n\n| way | time over the encoder's |\n| --- | --: |")
    for name, own in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(own, seconds["EchoEncoder"], strict=True))
        print(f"| {name} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
