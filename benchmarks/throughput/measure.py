"""The table of a mix: seconds in interleaved rounds, and what each contender computes, padding included.

Fair: in each round every contender runs once, and the order is turned by one place from round to round, so that another
program on the machine slows all of them alike. Ratios are taken within a round; the median of the ratios is shown. Each
contender is warm: it has embedded the same texts before time is taken. Tokenising is part of the time, loading is not.
Each has a process of its own (guest.py).

Not fair, and marked in the tables: a contender that would take longer than ``cap`` seconds for a mix runs a sample of
its texts, evenly spaced by length, and its time is scaled by tokens. A sample has neither the longest texts nor full
batches padded to them, so the scaled time is rather too short than too long. The base of all ratios and this library's
own entries always run all texts. If time runs out there are fewer rounds, the same number for each.
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

#: Rows of the square matrices whose products give the peak: on a processor, and on a GPU, which needs larger ones.
PEAK_SIZES = (2048, 4096)
GPU_PEAK_SIZES = (4096, 8192)


@dataclass(frozen=True)
class Effort:
    """How much time is spent on the table.

    Attributes:
        rounds: interleaved rounds; fewer if time runs out.
        cap: seconds that a contender may take for a mix in a round; if it takes longer it gets a sample of the texts.
        batch_sizes: those that are tried, in rising order, where the best one is searched.
        first: the one that is tried first; then larger ones, and smaller ones if no larger one is better.
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
        mix: name of the mix.
        contender: name of the contender.
        label: its name in the tables.
        batch_size: the one that it runs with; ``None`` if it chooses by itself.
        chosen: places in the mix of the texts that it runs in each round.
        of: the number of texts in the mix.
        tokens: content tokens of the whole mix that it uses.
        scale: the factor for its times; 1 without a sample.
        flops: operations that the whole mix needs, without padding: those of linear layers, those of attention.
        needed: operations of the linear layers that the texts in ``chosen`` need.
        ran: operations that the linear layers ran for them, padding included; ``None`` if they cannot be counted.
        seconds: of each round, scaled.
        cosine: the smallest to the same configuration in float32.
        gpu_memory: the peak of the GPU's memory while these texts ran, in MiB.
        note: a remark in the tables.
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
        """The share of what the linear layers ran that no text needed; negative if they ran less than needed."""
        return 1 - self.needed / self.ran if self.ran else None

    @property
    def credited(self) -> float:
        """The operations that count for the share of the peak: those that are needed and did run."""
        saved = 1.0 if self.ran is None else min(1.0, self.ran / self.needed)
        return self.flops[0] * saved + self.flops[1]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"padding": self.padding}


# Seconds of one product above which no further one is measured.
_SLOW = 2.0


def peak(device: str, dtype: torch.dtype) -> float:
    """Measure the operations a second of the fastest of some large matrix products, as a linear layer computes them.

    A processor without instructions for ``dtype`` takes many seconds a product. Its peak is then that of the first one.
    """
    best = 0.0
    on_gpu = device != "cpu"
    for size in GPU_PEAK_SIZES if on_gpu else PEAK_SIZES:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

        def product(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
            torch.nn.functional.linear(a, b)
            gpu.wait()

        with torch.inference_mode():
            first = _timed(product)
            if not on_gpu and first > _SLOW:
                return max(best, 2.0 * size**3 / first)
            best = max(best, 2.0 * size**3 / min(_timed(product) for _ in range(20 if on_gpu else 5)))
    return best


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def table(field_: Field, mix: Mix, effort: Effort, clock: Clock | None = None) -> dict[str, Any]:
    """Measure all contenders on one mix: their entries, and the peak of the machine in each round."""
    entries: dict[str, Entry] = {}
    clock = clock or Clock()
    for name, contender in field_.loaded.items():
        if entries and clock.is_over:  # one round of some contenders is better than none of all
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
    """Let all take turns until the rounds or the time are over; return the peaks. One that fails loses its entry."""
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
    # A round that was not finished in time is not counted for any contender.
    whole = min((len(entry.seconds) for entry in entries.values()), default=0)
    for name in list(entries):
        del entries[name].seconds[whole:]
        if not whole:
            del entries[name]
    return peaks[:whole]


def cosines(field_: Field, texts: list[Mix], tables: list[dict[str, Any]], count: int) -> None:
    """Compare ``count`` texts of each mix with float32, and write the smallest cosine into the tables."""
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
    """Choose batch size and sample, embed the texts of the rounds once, and count what runs."""
    if contender.tunable:
        count = max(-(-len(mix.texts) // 2), 2 * effort.first)
        contender.batch_size = best_batch_size(contender, [mix.texts[i] for i in mix.sample(count)], effort)
    chosen = list(range(len(mix.texts))) if contender.whole else _affordable(contender, mix, effort.cap)
    texts = [mix.texts[i] for i in chosen]
    used = [n if contender.longest is None else min(n, contender.longest) for n in mix.lengths]
    ran, memory = contender.ran(texts)
    return Entry(
        mix=mix.name,
        contender=name,
        label=contender.label,
        batch_size=contender.batch_size,
        chosen=chosen,
        of=len(mix.texts),
        tokens=sum(used),
        scale=sum(used) / sum(used[i] for i in chosen),
        flops=contender.flops(mix.texts),
        needed=contender.flops(texts)[0],
        ran=ran,
        gpu_memory=memory,
        note=contender.note,
    )


def _affordable(contender: Guest, mix: Mix, cap: float) -> list[int]:
    """Choose the largest sample (at least four texts) that will probably take at most ``cap`` seconds.

    The estimate comes from the time of four texts; from more if four take so little time that they say little of a full
    batch.
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
    """Estimate the cost of batches of these texts, padding included; attention counts as in an echo of the built-in."""
    lengths = sorted((mix.lengths[i] for i in chosen), reverse=True)
    size = contender.batch_size or 1
    batches = (lengths[i : i + size] for i in range(0, len(lengths), size))
    return sum(len(batch) * batch[0] * (1 + batch[0] / 1500) for batch in batches)


def best_batch_size(contender: Guest, texts: list[str], effort: Effort) -> int:
    """Find the fastest batch size on a sample; of two runs with each size the faster one counts.

    The search goes up from the first size until two in a row are slower or memory runs out. If none of those is faster
    than the first, it goes down.
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
    """Try these sizes in order until two in a row are slower; return the best of them and of ``found``."""
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
            # Once a size has worked, an error of another one ends the search. Before that, only an error of memory is
            # accepted: larger batches will not fit either, but the next smaller one may.
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
    """Whether the error of a contender's process says that the memory of its GPU is not enough."""
    return any(said in str(error) for said in ("OutOfMemoryError", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED"))
