"""Cost beside the table: the latency of one query, texts of one length, corpora of growing size.

Fair: for latency, each of the 50 queries goes to one contender after the other. Texts of one length need no padding,
so those curves show the arithmetic alone; sentence-transformers gets, at each length, a batch size with as many tokens
as the one that was best for the passages. Not fair: a corpus is embedded once and not in rounds, so those numbers are
rougher. Sizes that would take too long are left out, and the table says so.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import numpy as np

from .contenders import Field
from .guest import Guest
from .mixes import Prose, short_texts


def latency(field_: Field, queries: int) -> list[dict[str, Any]]:
    """Measure the median and the 95th percentile of the seconds for one short query, after five more queries."""
    texts = list(islice(short_texts(1), queries + 5))
    seconds: dict[str, list[float]] = {name: [] for name in field_.loaded}
    for text in texts:
        for name in list(seconds):
            action = partial(field_.loaded[name].seconds, [text])
            if (taken := field_.attempt(name, "latency", action)) is None:
                del seconds[name]
            else:
                seconds[name].append(taken)
    rows = []
    for name, taken in seconds.items():
        p50, p95 = np.percentile(taken[5:], [50, 95])
        label = field_.loaded[name].label
        rows.append({"contender": name, "label": label, "p50": p50, "p95": p95, "seconds": taken[5:]})
    return rows


def by_length(
    field_: Field, prose: Prose, lengths: list[int], tokens: int, rounds: int, largest: int = 128
) -> list[dict[str, Any]]:
    """Measure the seconds for texts of each length; the contenders take turns, after one round that is not counted.

    Args:
        field_: the contenders.
        prose: where the texts come from.
        lengths: in content tokens.
        tokens: content tokens of all texts of one length together, about.
        rounds: that are counted.
        largest: the most texts of a batch, whatever the length.
    """
    points: list[dict[str, Any]] = []
    sizes = {name: contender.batch_size for name, contender in field_.loaded.items()}
    for length in lengths:
        mix = prose.mix(f"length {length}", [length] * max(tokens // length, 1))
        runners = [name for name, contender in field_.loaded.items() if _takes_part(contender, length)]
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for turn in range(rounds + 1):
            for name in [name for name in runners if name in seconds]:
                contender = field_.loaded[name]
                if contender.tunable:
                    contender.batch_size = max(1, min(largest, round((sizes[name] or 32) * 200 / length)))
                action = partial(contender.seconds, mix.texts)
                if (taken := field_.attempt(name, mix.name, action)) is None:
                    del seconds[name]
                elif turn:
                    seconds[name].append(taken)
        points += [
            {
                "contender": name,
                "label": field_.loaded[name].label,
                "length": length,
                "texts": len(mix.texts),
                "tokens": mix.tokens,
                "seconds": taken,
                "tokens_per_second": mix.tokens / median(taken),
            }
            for name, taken in seconds.items()
        ]
        print(f"length {length}: done", flush=True)
    for name, size in sizes.items():
        field_.loaded[name].batch_size = size
    return points


def _takes_part(contender: Guest, length: int) -> bool:
    """Whether a contender takes part at this length: not if it is slow, or would truncate such texts."""
    return contender.curves and (contender.longest is None or length < contender.longest)


def by_corpus(field_: Field, sizes: list[int], cap: float) -> list[dict[str, Any]]:
    """Measure the seconds for corpora of different short texts; skip a size that would take more than ``cap``."""
    texts = list(islice(short_texts(), max(sizes)))
    points: list[dict[str, Any]] = []
    for name, contender in field_.loaded.items():
        if not contender.curves:
            continue
        rate = 0.0
        for size in sizes:
            row = {"contender": name, "label": contender.label, "texts": size}
            if size > len(texts):
                points.append(row | {"skipped": f"the library has {len(texts)} such texts"})
            elif rate and size / rate > cap:
                points.append(row | {"skipped": f"would take about {size / rate:.0f} s"})
            else:
                action = partial(contender.seconds, texts[:size])
                if (taken := field_.attempt(name, f"corpus of {size}", action)) is None:
                    break
                rate = size / taken
                points.append(row | {"seconds": taken, "texts_per_second": rate})
        print(f"corpora: {name} done", flush=True)
    return points


def use_batch_sizes(field_: Field, mixes: list[dict[str, Any]], name: str) -> None:
    """Give every contender the batch size that was best for the mix of this name, if that mix was measured."""
    for entry in (entry for mix in mixes if mix["name"] == name for entry in mix["entries"]):
        if entry["contender"] in field_.loaded:
            field_.loaded[entry["contender"]].batch_size = entry["batch_size"]
