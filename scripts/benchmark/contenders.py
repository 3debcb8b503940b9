"""Who takes part, by name, and what happens to one that cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from echo_embeddings import EchoConfig

from .contender import Contender, Ours, Place
from .guest import Guest
from .rivals import CLASSICAL, ECHO, MiniLM, PlainLoop, SentenceTransformers

Result = TypeVar("Result")

#: What all ratios are over: the best that sentence-transformers makes of the paper's echo.
BASE = "st-echo-best"


def factories() -> dict[str, Callable[[Place], Contender]]:
    """How to load each contender, in the order of the table."""
    st = partial(partial, SentenceTransformers)
    known: dict[str, Callable[[Place], Contender]] = {
        "plain-loop": PlainLoop,
        "st-echo-stock": st(prompt=ECHO, label="(b) sentence-transformers echo, stock (bf16)", stock=True),
        "st-echo-float32": st(prompt=ECHO, label="(b) sentence-transformers echo, float32", dtype="float32"),
        BASE: st(prompt=ECHO, label="(c) sentence-transformers echo, at its best", best=True),
        "st-classical-stock": st(prompt=CLASSICAL, label="(d) sentence-transformers classical, stock", stock=True),
        "st-classical-best": st(prompt=CLASSICAL, label="(d) sentence-transformers classical, at its best", best=True),
        "ours-echo": partial(Ours, preset="echo", label="the paper's echo"),
        "ours-zero-shot": partial(Ours, preset="zero-shot", label="late echo, zero-shot"),
        "ours-classical": partial(Ours, preset="classical", label="classical"),
        "minilm-float32": partial(MiniLM, dtype="float32"),
        "minilm-bf16": partial(MiniLM, dtype="bfloat16"),
    }
    if EchoConfig.preset("default").packaged_adapter is not None:
        known["ours-default"] = partial(Ours, preset="default", label="late echo, default (trained)")
    known |= {
        "ours-late-echo": partial(Ours, preset="late-echo", label="late echo, any model"),
        "ours-echo-compiled": partial(Ours, preset="echo", label="the paper's echo", compiled=True),
        "ours-default-compiled": partial(Ours, preset="default", label="late echo, default", compiled=True),
    }
    return known


#: Who takes part with the built-in model, which has better late echos than that of any model.
DEFAULT = tuple(name for name in factories() if name != "ours-late-echo")


@dataclass
class Field:
    """The contenders that are loaded, each in its process, and why others are not or have stopped."""

    place: Place
    loaded: dict[str, Guest] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)

    def load(self, names: Iterable[str]) -> None:
        """Load contenders by name; one that fails is noted and left out."""
        for name in names:
            print(f"loading {name}", flush=True)
            if (contender := self.attempt(name, "load", partial(self.fresh, name))) is not None:
                self.loaded[name] = contender

    def fresh(self, name: str) -> Guest:
        """A contender in a process that has done nothing yet."""
        return Guest(factories()[name], self.place)

    def close(self) -> None:
        """End their processes."""
        for contender in self.loaded.values():
            contender.close()

    def attempt(self, name: str, stage: str, action: Callable[[], Result]) -> Result | None:
        """Do something for one contender; if it fails, note by whom, where and why, and go on."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - whatever breaks one must not stop the others
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            self.failures.append({"contender": name, "stage": stage, "reason": reason[:300]})
            print(f"FAILED {name} ({stage}): {reason[:300]}", flush=True)
            return None
