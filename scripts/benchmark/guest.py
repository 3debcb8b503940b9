"""A contender in a process of its own, as its users run it.

Fair: what one library sets for its whole process (this one lets glibc keep freed memory) or leaves in memory touches no
other. All are loaded at once, but only one computes at any time, and each takes its own time: what goes through the
pipe is not part of it.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from transformers.utils import logging as transformers_logging

from .contender import Contender, Place

FACTS = ("label", "whole", "curves", "tunable", "longest", "batch_size")


class Guest:
    """Asks a contender in another process.

    Args:
        make: makes the contender there.
        place: where the model lies.

    Raises:
        RuntimeError: what went wrong there, here or in any later call.
    """

    label: str
    whole: bool
    curves: bool
    tunable: bool
    longest: int | None
    #: Told to the contender with every call.
    batch_size: int | None

    def __init__(self, make: Callable[[Place], Contender], place: Place) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, place))
        self._process.start()
        theirs.close()
        self.__dict__ |= self._answer()

    def seconds(self, texts: list[str]) -> float:
        """What embedding takes, tokenising included."""
        return float(self._ask("seconds", texts))

    def flops(self, texts: list[str]) -> tuple[float, float]:
        """Operations that the texts need: linear layers, attention."""
        linear, attention = self._ask("flops", texts)
        return linear, attention

    def ran(self, texts: list[str]) -> float | None:
        """Operations that its linear layers run for the texts; ``None`` where they cannot be counted."""
        found: float | None = self._ask("ran", texts)
        return found

    def cosine(self, texts: list[str]) -> float:
        """The smallest to the same configuration in float32."""
        return float(self._ask("cosine", texts))

    def high_water(self) -> float:
        """MiB of memory at most until now."""
        return float(self._ask("high_water"))

    def close(self) -> None:
        """End its process."""
        self._pipe.close()
        self._process.join()

    def _ask(self, method: str, *arguments: Any) -> Any:
        self._pipe.send((method, self.batch_size, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            failed, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"its process ended with exit status {self._process.exitcode}") from None
        if failed:
            raise RuntimeError(value)
        return value


def _serve(pipe: Connection, make: Callable[[Place], Contender], place: Place) -> None:
    """Answer until nobody asks any more."""
    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    try:
        contender = make(place)
    except Exception as error:  # noqa: BLE001 - told to who asked
        pipe.send((True, _reason(error)))
        return
    pipe.send((False, {name: getattr(contender, name) for name in FACTS}))
    while True:
        try:
            method, contender.batch_size, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((False, getattr(contender, method)(*arguments)))
        except Exception as error:  # noqa: BLE001 - as above
            pipe.send((True, _reason(error)))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
