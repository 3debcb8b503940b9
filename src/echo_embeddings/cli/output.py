"""What a command shows: results on stdout, everything about the way there on stderr."""

from __future__ import annotations

import json
import re
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

__all__ = ["Bar", "err", "note", "out", "plain_warnings", "print_json", "printable", "progress"]

# What a terminal obeys instead of showing it: control characters (C0, C1), marks that turn the direction of writing
# around, and halves of characters (bytes of a path that are no UTF-8), which cannot be printed at all.
_COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    r"""Spell out what a terminal would obey, such as ``\x1b`` for the beginning of a command.

    Args:
        text: what somebody else wrote: a passage, a path, a message with such a thing in it.
        keep: characters that may stand, such as ends of lines.
    """
    return _COMMANDS.sub(lambda found: found[0] if found[0] in keep else _spelled(found[0]), text)


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a path that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


class _Console(Console):
    """Prints strings as they are, but for what a terminal would obey.

    Passages and paths may also hold what rich takes for markup or for the name of an emoji.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, keep="\n\t"), **options)


out = _Console()
err = _Console(stderr=True)


def note(message: str) -> None:
    """Say something on stderr."""
    err.print(message, soft_wrap=True)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value on stdout, for machines. What a terminal would obey is escaped, and so nothing is lost.

    Args:
        value: what to print.
        indent: spaces a level; ``None`` for all on one line.
    """
    content = json.dumps(value, ensure_ascii=False, indent=indent)
    content = _COMMANDS.sub(lambda one: one[0] if one[0] == "\n" else f"\\u{ord(one[0]):04x}", content)
    out.print(content, soft_wrap=True)


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
