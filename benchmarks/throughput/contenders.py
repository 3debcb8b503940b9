"""The contenders by name, and the processes of those that are loaded; one that fails is noted and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from echo_embeddings import EchoConfig

from .clock import Clock
from .contender import Contender, Ours, Place
from .guest import Guest
from .rivals import CLASSICAL, ECHO, MiniLM, PlainLoop, SentenceTransformers

Result = TypeVar("Result")

#: All ratios are relative to this one: sentence-transformers at its best, with the paper's echo.
BASE = "st-echo-best"


def factories() -> dict[str, Callable[[Place], Contender]]:
    """Functions that load each contender, by name, in the order of the table."""
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


#: Those that take part with the built-in model. It has late echos of its own, better than the one for any model.
DEFAULT = tuple(name for name in factories() if name != "ours-late-echo")


#: The same without the compiled ones, which pad on a GPU and take a minute to compile. The most important come first,
#: because time may run out.
ON_GPU = (
    BASE,
    "ours-default",
    "ours-echo",
    "ours-classical",
    "st-classical-best",
    "ours-zero-shot",
    "st-echo-stock",
    "minilm-bf16",
    "st-classical-stock",
    "st-echo-float32",
    "minilm-float32",
    "plain-loop",
)


@dataclass
class Field:
    """The contenders that are loaded, each in its own process, and the reasons why others failed.

    Attributes:
        place: the model and the device.
        loaded: the processes, by name.
        failures: the contender, the stage and the reason of each failure.
        clock: when its time is over, nothing more is attempted.
    """

    place: Place
    loaded: dict[str, Guest] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    _started: dict[str, Guest] = field(default_factory=dict)

    @property
    def is_parallel(self) -> bool:
        """Whether several may work at once while no time is taken: only with a GPU, which leaves cores free."""
        return self.place.device != "cpu"

    def start(self, names: Iterable[str]) -> None:
        """Start the processes of contenders; they import their libraries in the background."""
        for name in names:
            self._started[name] = Guest(factories()[name], self.place, self.clock)

    def load(self, names: Iterable[str]) -> None:
        """Load contenders by name. One that fails is noted and left out."""
        groups = [list(names)] if self.is_parallel else [[name] for name in names]
        for group in groups:
            print(f"loading {', '.join(group)}", flush=True)
            self.start(name for name in group if name not in self._started)
            guests = {name: self._started.pop(name) for name in group}
            for guest in guests.values():
                guest.send("load")
            for name, guest in guests.items():
                if self.attempt(name, "load", guest.loaded) is None:
                    guest.close()
                else:
                    self.loaded[name] = guest

    def fresh(self, name: str) -> Guest:
        """Load a contender once more, in a new process that has embedded nothing yet."""
        return Guest(factories()[name], self.place, self.clock).load()

    def unload(self, name: str) -> None:
        """End the process of one contender, which frees its memory."""
        if (guest := self.loaded.pop(name, None)) is not None:
            guest.close()

    def close(self) -> None:
        """End all processes."""
        guests = [*self.loaded.values(), *self._started.values()]
        for guest in guests:
            guest.hang_up()
        for guest in guests:
            guest.close()

    def gather(self, stage: str, method: str, *arguments: Any) -> dict[str, Any]:
        """Call a method of all contenders and return the results by name. One that fails is noted and left out."""
        asked = []
        for name, guest in self.loaded.items():
            if self.is_parallel:
                guest.send(method, *arguments)
            asked.append((name, guest.answer if self.is_parallel else partial(getattr(guest, method), *arguments)))
        said = {name: self.attempt(name, stage, action) for name, action in asked}
        return {name: value for name, value in said.items() if value is not None}

    def out_of_time(self, stage: str) -> None:
        """Note that a stage was stopped before its end because time ran out."""
        note = {"contender": "all that follow", "stage": stage, "reason": "no time was left"}
        self.failures += [] if note in self.failures else [note]

    def attempt(self, name: str, stage: str, action: Callable[[], Result]) -> Result | None:
        """Call ``action`` for one contender. If it fails, note contender, stage and reason, and return ``None``."""
        if self.clock.is_over:
            self.out_of_time(stage)
            return None
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - an error of one must not stop the others
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            self.failures.append({"contender": name, "stage": stage, "reason": reason[:300]})
            print(f"FAILED {name} ({stage}): {reason[:300]}", flush=True)
            return None
