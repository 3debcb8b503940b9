"""Run a contender in a process of its own, as its users do.

Fair: what one library changes for its whole process (this one lets glibc keep freed memory) or keeps in memory does not
affect the others. All are loaded at once (models that fill a GPU: one after the other), but only one computes at any
time. Each process measures its own time, so sending texts through the pipe is not part of it.

The processes share one GPU. One that has cached more memory than its share releases it at the end of its turn, and runs
once without being timed at the next turn. So it has as much memory as it would have alone, and it is as warm.
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
#: Seconds to wait for an answer when the time is over; then the process is ended.
_GRACE = 5.0


class Guest:
    """A contender in another process, which imports its libraries at once and loads its model when it is asked to.

    Args:
        make: a function that makes the contender in that process.
        place: the model and the device.
        clock: when its time is over, an answer is awaited for a few seconds only.
    """

    label: str
    whole: bool
    curves: bool
    tunable: bool
    longest: int | None
    note: str
    #: Sent to the contender with every call.
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
            RuntimeError: this or any later call failed in that process; the message says why.
        """
        self.send("load")
        return self.loaded()

    def loaded(self) -> Guest:
        """Wait until the model is loaded, after ``send("load")``."""
        self.__dict__ |= self.answer()
        return self

    def seconds(self, texts: list[str]) -> float:
        """The seconds that embedding takes, tokenising included."""
        return float(self._ask("seconds", texts))

    def flops(self, texts: list[str]) -> tuple[float, float]:
        """The operations that the texts need: those of linear layers, those of attention."""
        linear, attention = self._ask("flops", texts)
        return linear, attention

    def ran(self, texts: list[str]) -> tuple[float | None, float | None]:
        """The operations that its linear layers run for the texts, and MiB of a GPU's memory; ``None`` if not known."""
        operations, memory = self._ask("ran", texts)
        return operations, memory

    def cosines(self, samples: list[list[str]]) -> list[float]:
        """The smallest cosine to the same configuration in float32, for each sample."""
        return list(self._ask("cosines", samples))

    def high_water(self) -> float:
        """The peak memory of its process until now, in MiB."""
        return float(self._ask("high_water"))

    def hang_up(self) -> None:
        """Tell its process to end; ``close`` waits for it."""
        self._pipe.close()

    def close(self) -> None:
        """End its process."""
        self.hang_up()
        self._process.join(10)
        self._end()

    def send(self, method: str, *arguments: Any) -> None:
        """Send a call without waiting, so that several processes can work; ``answer`` waits for the result."""
        with suppress(OSError):  # the process has ended; ``answer`` reports it
            self._pipe.send((method, self.batch_size, arguments))

    def answer(self) -> Any:
        """Wait for the result of the call that was sent.

        Raises:
            RuntimeError: the call failed, its process has ended, or the time is over.
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
    """Answer calls until the pipe is closed."""
    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    if place.shape is not None:
        shapes.made_in_place(place.device)
    with suppress(ImportError):  # reported when it is loaded
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
        except Exception as error:  # noqa: BLE001 - sent back to the caller
            answer = (True, _reason(error))
        # Outside the handler: inside it, the traceback still holds the tensors that did not fit.
        if gpu.trim(0 if answer[0] else place.kept) and contender is not None:
            contender.is_cold = True
        pipe.send(answer)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
