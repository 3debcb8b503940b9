"""The options of the command, and the sets of options behind ``--quick`` and ``--gpu``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .contenders import ON_GPU
from .measure import Effort
from .shapes import SHAPES

LENGTHS = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]


@dataclass(frozen=True)
class Settings:
    """The options, with the values of the full run; ``--help`` describes each."""

    short: int = 256
    passages: int = 32
    tail: int = 32
    longest: int = 4000
    even: int = 0
    even_tokens: int = 512
    rounds: int = 5
    cap: float = 20.0
    batch_sizes: Sequence[int] = Effort.batch_sizes
    first_batch: int = Effort.first
    search: float = Effort.search
    cosines: int = 6
    queries: int = 50
    lengths: Sequence[int] = field(default_factory=lambda: LENGTHS)
    length_tokens: int = 2048
    length_rounds: int = 3
    sizes: Sequence[int] = field(default_factory=lambda: [100, 1000, 10_000, 100_000])
    size_cap: float = 180.0
    memory: bool = True
    only: Sequence[str] | None = None
    one_by_one: bool = False
    device: str = "cpu"
    shape: str | None = None
    tokenizer: Path | None = None
    budget: float | None = None
    plots: bool = True
    out: Path = Path("docs/bench")

    @property
    def effort(self) -> Effort:
        return Effort(self.rounds, self.cap, self.batch_sizes, self.first_batch, self.search)


QUICK = Settings(
    short=32,
    passages=6,
    tail=5,
    longest=600,
    rounds=2,
    cap=2.0,
    cosines=2,
    queries=8,
    lengths=LENGTHS[1:7:2],
    length_tokens=256,
    length_rounds=1,
    sizes=[100],
    size_cap=20.0,
    memory=False,
    out=Path(tempfile.gettempdir()) / "echo-bench",
)

#: A GPU embeds thousands of texts a second: these are enough for tenths of a second a run, and all take some minutes.
GPU = Settings(
    short=4096,
    passages=512,
    tail=192,
    rounds=3,
    cap=1.0,
    batch_sizes=tuple(2**i for i in range(11)),
    first_batch=64,
    search=8.0,
    cosines=8,
    queries=20,
    lengths=(16, 64, 256, 1024, 4096),
    length_tokens=32768,
    length_rounds=1,
    sizes=(),
    memory=False,  # the tables show that of the GPU
    only=ON_GPU,
    device="cuda",
    budget=140.0,
    plots=False,
    out=QUICK.out,
)
#: The same for a model that is so large that a GPU holds only a few copies of it.
GPU_LARGE = replace(
    GPU,
    short=256,
    passages=0,
    tail=0,
    even=40,
    batch_sizes=tuple(2**i for i in range(8)),
    first_batch=16,
    cosines=2,
    queries=10,
    lengths=(),
    only=None,
    one_by_one=True,
    budget=110.0,
)


def _count(text: str) -> int:
    """Parse a number of at least 1. With 0 there would be no median, and the error would come at the very end."""
    if (value := int(float(text))) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _many(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _numbers(text: str) -> list[int]:
    return sorted(_count(part) for part in text.split(",") if part)


def parse(argv: list[str] | None, description: str | None) -> Settings:
    """Parse the command line: the full run, or that of ``--quick`` or ``--gpu``, with single options changed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--quick", action="store_true", help="about three minutes: less of everything; to a temporary folder"
    )
    parser.add_argument("--gpu", action="store_true", help="on a GPU, some minutes; with --shape one model at a time")
    _add_texts(parser.add_argument)
    _add_effort(parser.add_argument)
    _add_place(parser.add_argument)
    given = vars(parser.parse_args(argv))
    preset = QUICK if given.pop("quick", False) else Settings()
    if given.pop("gpu", False):
        preset = GPU_LARGE if given.get("shape") else GPU
    settings = replace(preset, **given)
    if not (settings.short or settings.passages or settings.tail or settings.even):
        parser.error("there is no text: one of --short, --passages, --tail and --even must be more than 0")
    if settings.first_batch not in settings.batch_sizes:
        parser.error(f"--first-batch {settings.first_batch} is not among --batch-sizes")
    return settings


def _add_texts(add: Callable[..., object]) -> None:
    add("--short", type=_many, help="short queries (256); 0 leaves the mix out, as for the next three")
    add("--passages", type=_many, help="passages (32)")
    add("--tail", type=_many, help="texts of the long tail (32)")
    add("--even", type=_many, help="texts of one length (0)")
    add("--longest", type=_count, help="tokens of the longest text of the tail (4000)")
    add("--even-tokens", type=_count, help="tokens of the texts of one length (512)")
    add("--cosines", type=int, help="texts of each mix whose vectors are compared with float32 (6)")
    add("--queries", type=int, help="queries for the latency (50)")
    add("--lengths", type=_numbers, help="lengths of the curve, in tokens, comma-separated (8 to 4096, doubling)")
    add("--length-tokens", type=_count, help="content tokens at each length (2048)")
    add("--sizes", type=_numbers, help="sizes of corpora of short texts, comma-separated (1e2,1e3,1e4,1e5)")


def _add_effort(add: Callable[..., object]) -> None:
    add("--rounds", type=_count, help="interleaved rounds of the table (5)")
    add("--cap", type=float, help="seconds a round for one contender and mix; a slower one gets a sample (20)")
    add("--batch-sizes", type=_numbers, help="batch sizes that are tried, comma-separated (1 to 128, doubling)")
    add("--first-batch", type=_count, help="the one that is tried first (1)")
    add("--search", type=float, help="seconds that the search for a batch size may take (no limit)")
    add("--length-rounds", type=_count, help="rounds at each length (3)")
    add("--size-cap", type=float, help="skip sizes that would take a contender longer, in seconds (180)")
    add("--memory", action=argparse.BooleanOptionalAction, help="measure peak memory of the host in fresh processes")
    add("--budget", type=float, help="seconds after which the run ends with what it has measured (no limit)")


def _add_place(add: Callable[..., object]) -> None:
    add("--only", type=lambda text: text.split(","), help="contenders by name, comma-separated")
    add("--one-by-one", action=argparse.BooleanOptionalAction, help="load one at a time, where memory holds no more")
    add("--device", help="cpu (the default) or cuda; --gpu also sets numbers that suit a GPU")
    add("--shape", choices=SHAPES, help="a model of this shape with random weights, instead of the built-in one")
    add("--tokenizer", type=Path, help="folder of the tokenizer for --shape (the built-in model's)")
    add("--plots", action=argparse.BooleanOptionalAction, help="draw plots, if matplotlib is installed")
    add("--out", type=Path, help="folder for results.json, results.md and the plots (docs/bench)")
