"""The table: interleaved rounds over a mix, and what each contender computes and wastes there.

Fair: in each round every contender runs once, in an order that is turned by one place from round to round, so a
neighbour on the machine slows all alike; ratios are taken within a round before their median is. Each contender is
warm: it has run the very same texts before the clock does. Tokenising is part of the time, loading is not. Each has a
process of its own (guest.py).

Not fair, and marked in the tables: a contender that would take longer than ``cap`` seconds for a mix runs a sample of
its texts, evenly spaced by length, and its time is scaled by tokens. A sample has neither the longest texts nor full
batches padded to them, so the scaled time is too short rather than too long. The base of all ratios and this
library's own entries always run whole. Where time runs out there are fewer rounds, as many for each.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from . import gpu
from .clock import Clock
from .contenders import Field
from .guest import Guest
from .mixes import Mix

#: Of square matrices: on a processor, and such as fill a GPU.
PEAK_SIZES = (2048, 4096)
GPU_PEAK_SIZES = (4096, 8192)


@dataclass(frozen=True)
class Effort:
    """How much is spent on the table.

    Attributes:
        rounds: interleaved, unless time runs out.
        cap: seconds a round that a contender may take for a mix before it gets a sample.
        batch_sizes: tried where one is searched, rising.
        first: the one that is tried first; from there it goes up, and down if nothing larger is better.
        search: seconds that a search may take.
    """

    rounds: int = 5
    cap: float = 20.0
    batch_sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128)
    first: int = 1
    search: float = float("inf")


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
        gpu_memory: MiB of a GPU's memory at most while these texts ran.
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
    gpu_memory: float | None = None
    note: str = ""

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


def peak(device: str, dtype: torch.dtype) -> float:
    """Operations per second of the fastest of some large matrix products, laid out as a linear layer's."""
    best = 0.0
    on_gpu = device != "cpu"
    for size in GPU_PEAK_SIZES if on_gpu else PEAK_SIZES:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

        def product(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
            torch.nn.functional.linear(a, b)
            gpu.wait()

        with torch.inference_mode():
            product()
            best = max(best, 2.0 * size**3 / min(_timed(product) for _ in range(20 if on_gpu else 5)))
    return best


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def table(field_: Field, mix: Mix, effort: Effort, clock: Clock | None = None) -> dict[str, Any]:
    """Entries of all contenders on one mix, with the raw seconds of each round, scaled, and the peaks beside them."""
    entries: dict[str, Entry] = {}
    clock = clock or Clock()
    for name, contender in field_.loaded.items():
        if entries and clock.is_over:  # rather a round of some than none of all
            field_.out_of_time(mix.name)
            break
        print(f"{mix.name}: preparing {name}", flush=True)
        action = partial(_prepare, name, contender, mix, effort)
        if (entry := field_.attempt(name, mix.name, action)) is not None:
            entries[name] = entry
    peaks = _rounds(field_, mix, entries, effort.rounds, clock)
    return {
        "name": mix.name,
        "texts": len(mix.texts),
        "lengths": mix.lengths,
        "peaks": peaks,
        "entries": [entry.to_json() | {"credited": entry.credited} for entry in entries.values()],
    }


def _rounds(field_: Field, mix: Mix, entries: dict[str, Entry], rounds: int, clock: Clock) -> list[float]:
    """Let all take turns until the rounds or the time are over; who fails loses its entry. The peak of each round."""
    peaks: list[float] = []
    longest = 0.0
    for turn in range(rounds):
        if turn and clock.left < longest:
            break
        started = time.perf_counter()
        peaks.append(peak(field_.place.device, field_.place.fast))
        order, first = list(entries), turn % max(len(entries), 1)
        for name in order[first:] + order[:first]:
            entry = entries[name]
            action = partial(field_.loaded[name].seconds, [mix.texts[i] for i in entry.chosen])
            if (seconds := field_.attempt(name, mix.name, action)) is not None:
                entry.seconds.append(seconds * entry.scale)
            elif not field_.clock.is_over:
                del entries[name]
        longest = max(longest, time.perf_counter() - started)
        print(f"{mix.name}: round {turn + 1} of {rounds}", flush=True)
    # A round that the clock cut short counts for nobody.
    whole = min((len(entry.seconds) for entry in entries.values()), default=0)
    for name in list(entries):
        del entries[name].seconds[whole:]
        if not whole:
            del entries[name]
    return peaks[:whole]


def cosines(field_: Field, texts: list[Mix], tables: list[dict[str, Any]], count: int) -> None:
    """Compare ``count`` texts of each mix with float32, and put the smallest cosine into the tables' entries."""
    if not count or not texts:
        return
    samples = [[mix.texts[i] for i in mix.sample(count)] for mix in texts]
    found = field_.gather("cosine", "cosines", samples)
    for i, mix in enumerate(texts):
        for own in (table for table in tables if table["name"] == mix.name):
            for entry in own["entries"]:
                if entry["contender"] in found:
                    entry["cosine"] = found[entry["contender"]][i]


def _prepare(name: str, contender: Guest, mix: Mix, effort: Effort) -> Entry:
    """Choose batch size and sample, warm up on the very texts of the rounds, and count what runs."""
    if contender.tunable:
        count = max(-(-len(mix.texts) // 2), 2 * effort.first)
        contender.batch_size = best_batch_size(contender, [mix.texts[i] for i in mix.sample(count)], effort)
    chosen = list(range(len(mix.texts))) if contender.whole else _affordable(contender, mix, effort.cap)
    texts = [mix.texts[i] for i in chosen]
    read = [n if contender.longest is None else min(n, contender.longest) for n in mix.lengths]
    ran, memory = contender.ran(texts)
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
        ran=ran,
        gpu_memory=memory,
        note=contender.note,
    )


def _affordable(contender: Guest, mix: Mix, cap: float) -> list[int]:
    """The largest sample (at least four texts) that is expected to take at most ``cap`` seconds.

    Judged by four texts, or by more where those take next to no time and so say little of a full batch.
    """
    count = 4
    while True:
        probe = mix.sample(count)
        texts = [mix.texts[i] for i in probe]
        contender.seconds(texts)  # warm
        seconds = contender.seconds(texts)
        if seconds > cap / 8 or count >= len(mix.texts):
            break
        count *= 4
    unit = seconds / _padded(mix, probe, contender)
    counts = range(len(probe) + 1, len(mix.texts) + 1)
    most = bisect_right(counts, cap, key=lambda n: unit * _padded(mix, mix.sample(n), contender))
    return mix.sample(counts[most - 1]) if most else probe


def _padded(mix: Mix, chosen: list[int], contender: Guest) -> float:
    """Roughly what batches of these texts cost, padding included; attention weighs as in an echo of the built-in."""
    lengths = sorted((mix.lengths[i] for i in chosen), reverse=True)
    size = contender.batch_size or 1
    batches = (lengths[i : i + size] for i in range(0, len(lengths), size))
    return sum(len(batch) * batch[0] * (1 + batch[0] / 1500) for batch in batches)


def best_batch_size(contender: Guest, texts: list[str], effort: Effort) -> int:
    """The fastest of some batch sizes on a sample, the better of two runs each.

    From the first one up, until two in a row are slower or memory is not enough; and down, if none of those was faster.
    """
    sizes, start = list(effort.batch_sizes), list(effort.batch_sizes).index(effort.first)
    largest = next((i for i, size in enumerate(sizes) if size >= len(texts)), len(sizes) - 1)
    start, clock = min(start, largest), Clock(None if effort.search == float("inf") else effort.search)
    best, fastest = _climb(contender, texts, sizes[start : largest + 1], (sizes[start], float("inf")), clock)
    if best == sizes[start]:
        best, fastest = _climb(contender, texts, sizes[:start][::-1], (best, fastest), clock)
    if fastest == float("inf"):
        raise RuntimeError(f"batches of {effort.first} do not fit into memory, nor smaller ones")
    return best


def _climb(
    contender: Guest, texts: list[str], sizes: list[int], found: tuple[int, float], clock: Clock
) -> tuple[int, float]:
    """The best of what was found before and of these sizes, tried in order until two in a row are slower."""
    best, fastest = found
    worse = 0
    for size in sizes:
        if fastest < float("inf") and clock.is_over:
            break
        contender.batch_size = size
        try:
            seconds = contender.seconds(texts)
            if seconds < 1.3 * fastest:
                seconds = min(seconds, contender.seconds(texts))
        except RuntimeError as error:
            # What works is kept, whatever is wrong with another size. Until then only memory is an excuse: larger
            # batches will not fit either, but of smaller ones the next may.
            if fastest == float("inf") and not _is_memory(error):
                raise
            if fastest < float("inf") or sizes[-1] > sizes[0]:
                break
            continue
        if seconds < fastest:
            best, fastest, worse = size, seconds, 0
        elif (worse := worse + 1) == 2:
            break
    return best, fastest


def _is_memory(error: RuntimeError) -> bool:
    """Whether a contender's process said that its GPU's memory was not enough."""
    return any(said in str(error) for said in ("OutOfMemoryError", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED"))
