"""What is said while something takes long, and where: on a screen that somebody watches, or in the log.

The environment variable ``ECHO_EMBEDDINGS_PROGRESS`` is the switch of everything: ``0`` shows nothing, not even a bar
that was asked for; ``1`` shows notices and bars of loading also where nobody seems to watch, such as in a file.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

__all__ = ["VARIABLE", "allows_bars", "is_watched", "loading_bars", "say", "say_once"]

VARIABLE = "ECHO_EMBEDDINGS_PROGRESS"
_VALUES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

_lock = threading.Lock()
_said: set[str] = set()
_hiding = 0  # how many threads want transformers' bars hidden
_were_shown = False


def say(log: logging.Logger, message: str) -> None:
    """Show a line on stderr if somebody watches; else write it to the log, with level INFO.

    Raises:
        ValueError: ``ECHO_EMBEDDINGS_PROGRESS`` has an unknown value.
    """
    if is_watched():
        print(f"echo-embeddings: {message}", file=sys.stderr, flush=True)  # noqa: T201 - for a person at a terminal
    else:
        log.info(message)


def say_once(log: logging.Logger, message: str) -> None:
    """:func:`say`, unless this process has said the same before.

    Raises:
        ValueError: ``ECHO_EMBEDDINGS_PROGRESS`` has an unknown value.
    """
    with _lock:
        is_new = message not in _said
        _said.add(message)
    if is_new:
        say(log, message)


def is_watched() -> bool:
    """Whether stderr is a terminal or a notebook, unless ``ECHO_EMBEDDINGS_PROGRESS`` says it.

    Raises:
        ValueError: ``ECHO_EMBEDDINGS_PROGRESS`` has an unknown value.
    """
    if (said := _switch()) is not None:
        return said
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def allows_bars() -> bool:
    """Whether a bar that was asked for, by ``show_progress=True``, is shown.

    Raises:
        ValueError: ``ECHO_EMBEDDINGS_PROGRESS`` has an unknown value.
    """
    return _switch() is not False


@contextmanager
def loading_bars(*, shown: bool = True) -> Iterator[None]:
    """Hide the bars of transformers and huggingface_hub during the block, unless ``shown`` and somebody watches.

    What the user switched off stays off.
    """
    if shown and is_watched():
        yield
        return
    _hide()
    try:
        yield
    finally:
        _unhide()


def _switch() -> bool | None:
    value = os.environ.get(VARIABLE, "").strip().lower()
    if value and value not in _VALUES:
        raise ValueError(f"{VARIABLE}={value!r} is unknown; set it to 1 (show), 0 (show nothing), or leave it out")
    return _VALUES.get(value)


def _hide() -> None:
    from transformers.utils import logging as transformers_logging

    global _hiding, _were_shown  # noqa: PLW0603 - the bars are switched for the whole process
    with _lock:
        if _hiding == 0:
            _were_shown = transformers_logging.is_progress_bar_enabled()
            _switch_bars(on=False)
            _switch_gguf_bar(on=False)
        _hiding += 1


def _unhide() -> None:
    global _hiding  # noqa: PLW0603 - see above
    with _lock:
        _hiding -= 1
        if _hiding == 0:
            _switch_gguf_bar(on=True)
            if _were_shown:
                _switch_bars(on=True)


def _switch_bars(*, on: bool) -> None:
    from transformers.utils import logging as transformers_logging

    with warnings.catch_warnings():  # huggingface_hub warns where HF_HUB_DISABLE_PROGRESS_BARS is set, and obeys that
        warnings.simplefilter("ignore")
        (transformers_logging.enable_progress_bar if on else transformers_logging.disable_progress_bar)()


def _switch_gguf_bar(*, on: bool) -> None:
    """The bar of reading a GGUF file does not ask whether bars are wanted."""
    from tqdm.auto import tqdm
    from transformers import modeling_gguf_pytorch_utils as gguf

    if hasattr(gguf, "tqdm"):
        gguf.tqdm = tqdm if on else partial(tqdm, disable=True)
