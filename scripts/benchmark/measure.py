"""The table: interleaved rounds over a mix, and what each contender computes and wastes there.

Fair: in each round every contender runs once, in an order that is turned by one place from round to round, so a
neighbour on the machine slows all alike; ratios are taken within a round before their median is. Each contender is
warm: it has run the very same texts before the clock does. Tokenising is part of the time, loading is not. Each has a
process of its own (guest.py).

Not fair, and marked in the tables: a contender that would take longer than ``cap`` seconds for a mix runs a sample of
its texts, evenly spaced by length, and its time is scaled by tokens. A sample has neither the longest texts nor full
batches padded to them, so the scaled time is too short rather than too long. The base of all ratios and this
library's own entries always run whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from .contenders import Field
from .guest import Guest
from .mixes import Mix

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
PEAK_SIZES = (2048, 4096)


@dataclass
class Entry:
    """One contender on one mix.

    Attributes:
        chosen: which of the mix's texts it runs in each round.
        tokens: content tokens that it reads of the whole mix.
        scale: what times are multiplied by: 1 without a sample.
        flops: of the whole mix, without padding: linear layers, attention.
        ran: operations of the linear layers as counted, padding included; ``None`` where they could not be.
        needed: operations of the linear layers for the texts that were counted.
    """

    mix: str
    contender: str
    label: str
    batch_size: int | None
    chosen: list[int]
    of: int
    tokens: int
    scale: float
    flops: tuple[float, float]
    needed: float
    ran: float | None = None
    seconds: list[float] = field(default_factory=list)
    cosine: float | None = None

    @property
    def padding(self) -> float | None:
        """Share of what the linear layers ran that no text needed; below zero where work was saved."""
        return 1 - self.needed / self.ran if self.ran else None

    @property
    def credited(self) -> float:
        """Operations that count towards the share of the peak: those needed, but none that were not run."""
        saved = 1.0 if self.ran is None else min(1.0, self.ran / self.needed)
        return self.flops[0] * saved + self.flops[1]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"padding": self.padding}


def peak(device: str, dtype: torch.dtype, repeats: int = 5) -> float:
    """Operations per second of the fastest of some large matrix products, laid out as a linear layer's."""
    best = 0.0
    for size in PEAK_SIZES:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

        def product(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
            torch.nn.functional.linear(a, b)
            if device != "cpu":
                torch.cuda.synchronize()

        with torch.inference_mode():
            product()
            best = max(best, 2.0 * size**3 / min(_timed(product) for _ in range(repeats)))
    return best


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def table(field_: Field, mix: Mix, rounds: int, cap: float, cosines: int) -> dict[str, Any]:
    """Entries of all contenders on one mix, with the raw seconds of each round, scaled, and the peaks beside them."""
    entries: dict[str, Entry] = {}
    for name, contender in field_.loaded.items():
        print(f"{mix.name}: preparing {name}", flush=True)
        if (entry := field_.attempt(name, mix.name, partial(_prepare, name, contender, mix, cap))) is not None:
            entries[name] = entry
    peaks = []
    for turn in range(rounds):
        peaks.append(peak(field_.place.device, field_.place.fast))
        order, first = list(entries), turn % max(len(entries), 1)
        for name in order[first:] + order[:first]:
            entry = entries[name]
            texts = [mix.texts[i] for i in entry.chosen]
            action = partial(field_.loaded[name].seconds, texts)
            if (seconds := field_.attempt(name, mix.name, action)) is None:
                del entries[name]
            else:
                entry.seconds.append(seconds * entry.scale)
        print(f"{mix.name}: round {turn + 1} of {rounds}", flush=True)
    sample = [mix.texts[i] for i in mix.sample(cosines)]
    for name, entry in entries.items() if sample else ():
        entry.cosine = field_.attempt(name, f"{mix.name}, cosine", partial(field_.loaded[name].cosine, sample))
    return {
        "name": mix.name,
        "texts": len(mix.texts),
        "lengths": mix.lengths,
        "peaks": peaks,
        "entries": [entry.to_json() | {"credited": entry.credited} for entry in entries.values()],
    }


def _prepare(name: str, contender: Guest, mix: Mix, cap: float) -> Entry:
    """Choose batch size and sample, warm up on the very texts of the rounds, and count what runs."""
    if contender.tunable:
        contender.batch_size = best_batch_size(contender, [mix.texts[i] for i in mix.sample(-(-len(mix.texts) // 2))])
    chosen = list(range(len(mix.texts))) if contender.whole else _affordable(contender, mix, cap)
    texts = [mix.texts[i] for i in chosen]
    read = [n if contender.longest is None else min(n, contender.longest) for n in mix.lengths]
    return Entry(
        mix=mix.name,
        contender=name,
        label=contender.label,
        batch_size=contender.batch_size,
        chosen=chosen,
        of=len(mix.texts),
        tokens=sum(read),
        scale=sum(read) / sum(read[i] for i in chosen),
        flops=contender.flops(mix.texts),
        needed=contender.flops(texts)[0],
        ran=contender.ran(texts),
    )


def _affordable(contender: Guest, mix: Mix, cap: float) -> list[int]:
    """The largest sample (at least four texts) that is expected to take at most ``cap`` seconds, judged by four."""
    probe = mix.sample(4)
    texts = [mix.texts[i] for i in probe]
    contender.seconds(texts)  # warm
    unit = contender.seconds(texts) / _padded(mix, probe, contender)
    counts = range(len(mix.texts), 4, -1)
    samples = (mix.sample(count) for count in counts)
    return next((chosen for chosen in samples if unit * _padded(mix, chosen, contender) <= cap), probe)


def _padded(mix: Mix, chosen: list[int], contender: Guest) -> float:
    """Roughly what batches of these texts cost, padding included; attention weighs as in an echo of the built-in."""
    lengths = sorted((mix.lengths[i] for i in chosen), reverse=True)
    size = contender.batch_size or 1
    batches = (lengths[i : i + size] for i in range(0, len(lengths), size))
    return sum(len(batch) * batch[0] * (1 + batch[0] / 1500) for batch in batches)


def best_batch_size(contender: Guest, texts: list[str]) -> int:
    """The fastest of some batch sizes on a sample, the better of two runs; done when two in a row are slower."""
    best, fastest, worse = BATCH_SIZES[0], float("inf"), 0
    for size in BATCH_SIZES:
        contender.batch_size = size
        seconds = contender.seconds(texts)
        if seconds < 1.3 * fastest:
            seconds = min(seconds, contender.seconds(texts))
        if seconds < fastest:
            best, fastest, worse = size, seconds, 0
        elif (worse := worse + 1) == 2:
            break
        if size >= len(texts):
            break
    return best
