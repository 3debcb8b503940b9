"""Commands of other distributions, found by their entry points in the group ``echo_embeddings.commands``.

The name of an entry point is the name of the command; the object is a function as ``typer.Typer.command`` takes it:

    [project.entry-points."echo_embeddings.commands"]
    train = "sentence_transformers_echo.commands.train:train"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from echo_embeddings.extras import from_checkout

__all__ = ["GROUP", "command", "names"]

GROUP = "echo_embeddings.commands"

_CHECKOUT = f"needs sentence-transformers-echo: {from_checkout('./integrations/sentence-transformers[train]')}"

#: Commands of our own distributions: what each does, and what to install where it is missing.
_KNOWN = {
    "train": ("Fine-tune a model on your own pairs, triples or texts.", f"training {_CHECKOUT}"),
    "mine": ("Find for each question passages that look right and are not, to train on.", f"mining {_CHECKOUT}"),
}


def names() -> list[str]:
    """All commands that are installed, or known and not installed."""
    return list(dict.fromkeys([*_KNOWN, *(found.name for found in entry_points(group=GROUP))]))


def command(name: str) -> Any:
    """The command of a name; one that cannot be loaded says why when it is run.

    Args:
        name: as :func:`names` gives it.

    Returns:
        What typer makes of the function; ``None`` if there is no such command.
    """
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is not None:
        return _loaded(name, found)
    return _failing(name, *_KNOWN[name]) if name in _KNOWN else None


def _loaded(name: str, found: EntryPoint) -> Any:
    try:
        function = found.load()
    except Exception as error:  # noqa: BLE001 - the other commands must work, whatever is wrong with this one
        about, _ = _KNOWN.get(name, (f"A command of {found.value.split('.')[0]}, which cannot be loaded.", ""))
        return _failing(name, about, f"the command {name!r} cannot be loaded from {found.value}: {error}")
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    app.command(name)(function)
    return typer.main.get_command(app)


def _failing(name: str, about: str, reason: str) -> Any:
    """A command that takes anything, and raises ``ImportError``."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise ImportError(reason)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return TyperCommand(name, callback=fail, help=about, context_settings=anything)
