"""What a command shows: results on stdout, everything about the way there on stderr."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["Bar", "err", "note", "out", "plain_warnings", "print_json", "progress"]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def note(message: str) -> None:
    """Say something on stderr, as it is: paths and passages may hold what rich takes for markup."""
    err.print(message, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON value on stdout, for machines."""
    out.print(json.dumps(value, ensure_ascii=False, indent=2), markup=False, soft_wrap=True)


def plain_warnings() -> None:
    """Show warnings as a sentence; the line of our source they came from helps no user."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        note(f"warning: {message}")

    warnings.showwarning = show


class Bar:
    """A progress bar that is on the screen already."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, count: int) -> None:
        """So many texts more are done."""
        self._bar.advance(self._task, count)

    def show(self, label: str, done: int, total: int | None) -> None:
        """So many texts are done of so many; ``None`` if nobody knows how many there are."""
        self._bar.update(self._task, description=label, completed=done, total=total)

    def skip(self, label: str, done: int, total: int | None) -> None:
        """So many texts were done before, which do not count for the rate."""
        self._bar.reset(self._task, description=label, completed=done, total=total)


class _Rate(ProgressColumn):
    """Texts a second, over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.1f} texts/s")


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Bar]:
    """Show a bar with rate and time left on stderr; nothing where stderr is no terminal.

    Args:
        label: what is being done.
        total: how many texts there are; ``None`` if that is not known.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        yield Bar(bar, bar.add_task(label, total=total))
