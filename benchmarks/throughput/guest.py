"""A contender in a process of its own, as its users run it.

Fair: what one library sets for its whole process (this one lets glibc keep freed memory) or leaves in memory touches no
other. All are loaded at once (models that fill a GPU one after the other), but only one computes at any time, and each
takes its own time: what goes through the pipe is not part of it.

On a GPU that processes share, one that has cached more memory than its part gives it back when its turn ends, and runs
once without the clock when the next one begins: memory is no more scarce, and no colder, than if it were alone.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from transformers.utils import logging as transformers_logging

from . import gpu, shapes
from .clock import Clock
from .contender import Contender, Place

FACTS = ("label", "whole", "curves", "tunable", "longest", "batch_size", "note")
#: Seconds that an answer may take when the clock has run out, before its process is ended.
_GRACE = 5.0


class Guest:
    """Asks a contender in another process, which imports its libraries at once and loads its model when asked to.

    Args:
        make: makes the contender there.
        place: where the model lies.
        clock: no answer is awaited much longer than it runs.
    """

    label: str
    whole: bool
    curves: bool
    tunable: bool
    longest: int | None
    note: str
    #: Told to the contender with every call.
    batch_size: int | None = None

    def __init__(self, make: Callable[[Place], Contender], place: Place, clock: Clock | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._clock = clock or Clock()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, place))
        self._process.start()
        theirs.close()

    def load(self) -> Guest:
        """Load the model and wait for it.

        Raises:
            RuntimeError: what went wrong there, in this or any later call.
        """
        self.send("load")
        return self.loaded()

    def loaded(self) -> Guest:
        """Wait for a model whose loading was asked for by ``send("load")``."""
        self.__dict__ |= self.answer()
        return self

    def seconds(self, texts: list[str]) -> float:
        """What embedding takes, tokenising included."""
        return float(self._ask("seconds", texts))

    def flops(self, texts: list[str]) -> tuple[float, float]:
        """Operations that the texts need: linear layers, attention."""
        linear, attention = self._ask("flops", texts)
        return linear, attention

    def ran(self, texts: list[str]) -> tuple[float | None, float | None]:
        """Operations that its linear layers run for the texts, and MiB of a GPU's memory; ``None`` where not known."""
        operations, memory = self._ask("ran", texts)
        return operations, memory

    def cosines(self, samples: list[list[str]]) -> list[float]:
        """The smallest to the same configuration in float32, of each sample."""
        return list(self._ask("cosines", samples))

    def high_water(self) -> float:
        """MiB of memory at most until now."""
        return float(self._ask("high_water"))

    def hang_up(self) -> None:
        """Let its process end; ``close`` waits for that."""
        self._pipe.close()

    def close(self) -> None:
        """End its process."""
        self.hang_up()
        self._process.join(10)
        self._end()

    def send(self, method: str, *arguments: Any) -> None:
        """Ask for something that ``answer`` waits for, so that several may be at work."""
        with suppress(OSError):  # it has ended: ``answer`` says so
            self._pipe.send((method, self.batch_size, arguments))

    def answer(self) -> Any:
        """What was asked for.

        Raises:
            RuntimeError: what went wrong there, its process has ended, or the time is over.
        """
        left = self._clock.left
        try:
            if not self._pipe.poll(None if left == float("inf") else max(left, 0.0) + _GRACE):
                self._end()
                raise RuntimeError("it did not answer before the time was over")
            failed, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RuntimeError(f"its process ended with exit status {self._process.exitcode}") from None
        if failed:
            raise RuntimeError(value)
        return value

    def _ask(self, method: str, *arguments: Any) -> Any:
        self.send(method, *arguments)
        return self.answer()

    def _end(self) -> None:
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, make: Callable[[Place], Contender], place: Place) -> None:
    """Answer until nobody asks any more."""
    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    if place.shape is not None:
        shapes.made_in_place(place.device)
    with suppress(ImportError):  # said when it is loaded
        getattr(getattr(make, "func", make), "imports", lambda: None)()
    contender: Any = None
    while True:
        try:
            method, batch_size, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if method == "load":
                contender = make(place)
                value = {name: getattr(contender, name) for name in FACTS}
            else:
                contender.batch_size = batch_size
                value = getattr(contender, method)(*arguments)
            answer = (False, value)
        except Exception as error:  # noqa: BLE001 - told to who asked
            answer = (True, _reason(error))
        # Behind the handler: inside it, the traceback still holds what did not fit.
        if gpu.trim(0 if answer[0] else place.kept) and contender is not None:
            contender.is_cold = True
        pipe.send(answer)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
