"""How long a run may take: on a machine that is lent for minutes, what is measured must be written before they end."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Counts down from some seconds, or never ends.

    Args:
        seconds: from now on; ``None`` for no end.
        now: what tells the time.
    """

    def __init__(self, seconds: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = float("inf") if seconds is None else now() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end; below zero behind it."""
        return self._end - self._now()

    @property
    def is_over(self) -> bool:
        return self.left <= 0

    def part(self, parts: int, keep: float = 0.0) -> Clock:
        """The clock of the next of so many equal parts of what is left, when ``keep`` seconds are put aside."""
        left = self.left
        return Clock(None if left == float("inf") else max(left - keep, 0.0) / max(parts, 1), self._now)
