"""Compare the time of each preset with a classical pass through all layers, in one engine on one machine.

    make costs
    python -m benchmarks.costs --texts 50 --rounds 5

The texts are docstrings of Python's standard library, which every machine has, in three sets: the first eight words of
each passage, whole passages, and half of each. The presets take turns. Shown are layer-tokens and time over those of
``classical`` (the time is the median of the ratios of all rounds, because machines are shared and noisy) and texts a
second.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice

from echo_embeddings import EchoConfig, EchoEncoder

from .quality import layer_tokens
from .throughput.mixes import SHORT_WORDS, docstrings

__all__ = ["main", "passages"]

PRESETS = ("classical", "default", "late-echo", "echo")
#: Docstrings with fewer words are left out: they are no passages.
FEWEST_WORDS = 30


def passages(count: int) -> list[str]:
    """At most ``count`` distinct passages of the standard library's documentation, each of 30 words or more."""
    return list(islice((text for text in docstrings() if len(text.split()) >= FEWEST_WORDS), count))


def text_sets(count: int) -> dict[str, list[str]]:
    """``count`` short texts, ``count`` passages, and ``count`` texts of which every other one is short."""
    long = passages(count)
    short = [" ".join(text.split()[:SHORT_WORDS]) for text in long]
    return {"short texts": short, "passages": long, "mixed": long[::2] + short[1::2]}


def timed(encoders: dict[str, EchoEncoder], documents: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each encoder in each round; the encoders take turns.

    One more round is run first and not counted: it pays for what is set up once.
    """
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(rounds + 1):
        for name, encoder in encoders.items():
            started = time.perf_counter()
            encoder.encode_documents(documents)
            seconds[name].append(time.perf_counter() - started)
    return {name: taken[1:] for name, taken in seconds.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200, help="texts of each set (200)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are counted (5)")
    parser.add_argument("--device", help="cpu or cuda (default: the best there is; a GPU needs thousands of texts)")
    arguments = parser.parse_args(argv)
    device = arguments.device
    encoders = {name: EchoEncoder(None, EchoConfig.preset(name), device, on_truncate="ignore") for name in PRESETS}
    print("| texts | preset | layer-tokens | time | texts/s |\n| --- | --- | --: | --: | --: |")
    for title, documents in text_sets(arguments.texts).items():
        seconds = timed(encoders, documents, arguments.rounds)
        tokens = {name: layer_tokens(encoder, documents, []) for name, encoder in encoders.items()}
        for name in PRESETS:
            pairs = zip(seconds[name], seconds["classical"], strict=True)
            ratio = statistics.median(own / classical for own, classical in pairs)
            rate = len(documents) / statistics.median(seconds[name])
            cost = tokens[name] / tokens["classical"]
            print(f"| {title} | {name} | {cost:.2f} | {ratio:.2f} | {rate:.0f} |", flush=True)


if __name__ == "__main__":
    main()
