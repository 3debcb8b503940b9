"""Time and layer-tokens of the default against a classical pass of all layers, in one engine on one machine.

    make costs

Real text from every machine: the docstrings of Python's standard library, cut into short texts, passages and both. The
presets take turns, and the median of the rounds is shown, because machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import statistics
import sysconfig
import time
from itertools import islice
from pathlib import Path

from evaluate import layer_tokens

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.data.passages import passages_of

PRESETS = ("classical", "default", "late-echo", "echo")


def texts(count: int) -> dict[str, list[str]]:
    """At most ``count`` passages of real documentation, their first words, and half of each."""
    library = Path(sysconfig.get_path("stdlib"))
    folders = (library / name for name in ("", "asyncio", "email", "http", "importlib", "multiprocessing", "unittest"))
    files = (file for folder in folders for file in sorted(folder.glob("*.py")))
    passages = (passage.text for file in files for passage in passages_of(file, file.name))
    passages = list(islice(dict.fromkeys(text for text in passages if len(text.split()) >= 30), count))
    short = [" ".join(text.split()[:8]) for text in passages]
    return {"short texts": short, "passages": passages, "mixed": passages[::2] + short[1::2]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", help="cpu or cuda (the best there is; a GPU wants thousands of texts)")
    arguments = parser.parse_args()
    device = arguments.device
    encoders = {name: EchoEncoder(None, EchoConfig.preset(name), device, on_truncate="ignore") for name in PRESETS}
    mixes = texts(arguments.texts)
    print("| texts | preset | layer-tokens | time | texts/s |\n| --- | --- | --: | --: | --: |")
    for mix, documents in mixes.items():
        seconds: dict[str, list[float]] = {name: [] for name in PRESETS}
        for _ in range(arguments.rounds + 1):
            for name, encoder in encoders.items():
                started = time.perf_counter()
                encoder.encode_documents(documents)
                seconds[name].append(time.perf_counter() - started)
        cost = {name: layer_tokens(encoder, documents, []) for name, encoder in encoders.items()}
        # The first round pays for what is set up once.
        medians = {name: statistics.median(rounds[1:]) for name, rounds in seconds.items()}
        ratios = {
            name: statistics.median(
                own / base for own, base in zip(seconds[name][1:], seconds["classical"][1:], strict=True)
            )
            for name in PRESETS
        }
        for name in PRESETS:
            print(
                f"| {mix} | {name} | {cost[name] / cost['classical']:.2f} | {ratios[name]:.2f} | "
                f"{len(documents) / medians[name]:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
