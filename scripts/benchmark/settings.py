"""How much is measured: the options of the command, and what ``--quick`` makes of them."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from .shapes import SHAPES

LENGTHS = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]


@dataclass(frozen=True)
class Settings:
    """The full run; see ``--help`` for what each is."""

    short: int = 256
    passages: int = 32
    tail: int = 32
    longest: int = 4000
    rounds: int = 5
    cap: float = 20.0
    cosines: int = 6
    queries: int = 50
    lengths: list[int] = field(default_factory=lambda: LENGTHS)
    length_tokens: int = 2048
    length_rounds: int = 3
    sizes: list[int] = field(default_factory=lambda: [100, 1000, 10_000, 100_000])
    size_cap: float = 180.0
    memory: bool = True
    only: list[str] | None = None
    device: str = "cpu"
    shape: str | None = None
    out: Path = Path("docs/bench")


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


def _count(text: str) -> int:
    """At least one: of no text and no round there is no median, which would be said at the very end."""
    if (value := int(float(text))) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _numbers(text: str) -> list[int]:
    return sorted(_count(part) for part in text.split(",") if part)


def parse(argv: list[str] | None, description: str | None) -> Settings:
    """Settings from the command line: ``--quick`` or the full run, and single options over either."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="about three minutes: fewer texts and rounds, no memory; writes to /tmp")
    add("--rounds", type=_count, help="interleaved rounds of the table (5)")
    add("--short", type=_count, help="short queries (256)")
    add("--passages", type=_count, help="passages (32)")
    add("--tail", type=_count, help="texts of the long tail (32)")
    add("--longest", type=_count, help="tokens of its longest text (4000)")
    add("--cap", type=float, help="seconds a round that a contender may take for a mix before it gets a sample (20)")
    add("--cosines", type=int, help="texts of each mix that are compared with float32 (6)")
    add("--queries", type=int, help="queries for the latency (50)")
    add("--lengths", type=_numbers, help="lengths of the curve, in tokens, comma-separated (8 to 4096, doubling)")
    add("--length-tokens", type=_count, help="content tokens at each length (2048)")
    add("--length-rounds", type=_count, help="rounds at each length (3)")
    add("--sizes", type=_numbers, help="sizes of corpora of short texts, comma-separated (1e2,1e3,1e4,1e5)")
    add("--size-cap", type=float, help="skip sizes that would take a contender longer, in seconds (180)")
    add("--memory", action=argparse.BooleanOptionalAction, help="measure peak memory")
    add("--only", type=lambda text: text.split(","), help="contenders by name, comma-separated")
    add("--device", help="cpu (the default) or cuda; for a GPU the batch sizes searched may be too small")
    add("--shape", choices=SHAPES, help="random weights of this shape in place of the built-in model")
    add("--out", type=Path, help="folder for results.json, results.md and the plots (docs/bench)")
    given = vars(parser.parse_args(argv))
    return replace(QUICK if given.pop("quick", False) else Settings(), **given)
