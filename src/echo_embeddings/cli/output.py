"""What a command shows: results on stdout, everything about the way there on stderr."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["err", "note", "out", "plain_warnings", "print_json", "progress"]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def note(message: str) -> None:
    """Say something on stderr, as it is: paths and passages may hold what rich takes for markup."""
    err.print(message, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON value on stdout, for machines."""
    out.print(json.dumps(value, ensure_ascii=False, indent=2), markup=False, soft_wrap=True)


def plain_warnings() -> None:
    """Show warnings as a sentence; the line of our source they came from helps no user."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        note(f"warning: {message}")

    warnings.showwarning = show


class _Rate(ProgressColumn):
    """Texts a second, over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.1f} texts/s")


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on stderr; nothing where stderr is no terminal.

    Args:
        label: what is being done.
        total: how many texts there are.
        done: how many of them an earlier run has finished; they do not count for the rate.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
