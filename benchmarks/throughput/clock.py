"""A limit on the time of a run, for machines that are lent for minutes: results must be written before they end."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Counts down from a number of seconds.

    Args:
        seconds: how long, from now on; ``None`` for no limit.
        now: a function that returns the time in seconds.
    """

    def __init__(self, seconds: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = float("inf") if seconds is None else now() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self._end - self._now()

    @property
    def is_over(self) -> bool:
        return self.left <= 0

    def part(self, parts: int, keep: float = 0.0) -> Clock:
        """Start a clock for one of ``parts`` equal parts of the time that is left, minus ``keep`` seconds."""
        left = self.left
        return Clock(None if left == float("inf") else max(left - keep, 0.0) / max(parts, 1), self._now)
