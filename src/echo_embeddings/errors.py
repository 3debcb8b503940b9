"""The errors and warnings of echo-embeddings.

    EchoError
    ├── ConfigError         a template, layer, pooling, preset or saved config that cannot work   (ValueError)
    ├── ModelError          a model or tokenizer that cannot be used for echo                     (ValueError)
    │   └── ModelUnavailableError   the built-in model is not available on this machine           (OSError)
    ├── InputError          a file, row, span or command-line option that cannot be used          (ValueError)
    ├── OutputError         a file cannot be written, as on a full disk                           (OSError)
    ├── TruncationError     a text is longer than ``max_length`` and ``on_truncate="error"``      (ValueError)
    ├── NumericalError      the model or a transform produced NaN or infinity                     (ArithmeticError)
    └── WorkerError         a worker process of ``devices`` could not do its work                 (RuntimeError)

    TruncationWarning       texts were truncated to ``max_length``                                (UserWarning)
    DimensionsWarning       vectors of a length that the config was not made for                  (UserWarning)
    LeftOutWarning          something that was trained with the model is left out                 (UserWarning)
    WindowWarning           a sliding window hides part of the first copy                         (UserWarning)

A wrong type (``None`` in a list of texts) raises Python's ``TypeError``. A missing optional package raises Python's
``ImportError``, whose message names the extra to install.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from types import FrameType

__all__ = [
    "ConfigError",
    "DimensionsWarning",
    "EchoError",
    "InputError",
    "LeftOutWarning",
    "ModelError",
    "ModelUnavailableError",
    "NumericalError",
    "OutputError",
    "TruncationError",
    "TruncationWarning",
    "WindowWarning",
    "WorkerError",
    "warn",
]


class EchoError(Exception):
    """Base class of every error that this library defines."""


class ConfigError(EchoError, ValueError):
    """A template, layer choice, pooling, preset or saved config that cannot work."""


class InputError(EchoError, ValueError):
    """A file, a row, a span or an option cannot be used; the message says which, why, and what to do."""


class ModelError(EchoError, ValueError):
    """A model or tokenizer that cannot be used for echo embeddings."""


class ModelUnavailableError(ModelError, OSError):
    """The built-in model is neither cached nor installed, and cannot be downloaded."""


class NumericalError(EchoError, ArithmeticError):
    """The model, or a transform after it, produced NaN or infinity for at least one text."""


class OutputError(EchoError, OSError):
    """A file cannot be written, as on a full disk. ``filename`` says which; the message says what is kept."""


class WorkerError(EchoError, RuntimeError):
    """A worker process of ``EchoEncoder(devices=...)`` could not be started, or ended before its work was done.

    Also: this process was forked from one that used the encoder, and cannot go on with what that one had begun.
    """


class _Truncation(Exception):  # noqa: N818 - a part of an error and of a warning
    """How much was truncated, for code that catches the error or records the warning.

    Attributes:
        texts: number of texts that were longer than the limit.
        tokens: number of content tokens left out, over all those texts.
    """

    def __init__(self, message: str, *, texts: int, tokens: int) -> None:
        super().__init__(message)
        self.texts = texts
        self.tokens = tokens


class TruncationError(_Truncation, EchoError, ValueError):
    """A text is longer than ``max_length``, and the encoder was made with ``on_truncate="error"``."""


class TruncationWarning(_Truncation, UserWarning):
    """Texts were truncated to ``max_length`` content tokens."""


class DimensionsWarning(UserWarning):
    """Vectors have a length that the config was not made for."""


class LeftOutWarning(UserWarning):
    """Something that was trained with the model, such as its map, is left out; vectors are worse without it."""


class WindowWarning(UserWarning):
    """The model's sliding window hides part of the first copy from the second."""


# Packages between a user's code and ours.
_BETWEEN = {
    "asyncio",
    "contextlib",
    "langchain_core",
    "langchain_echo_embeddings",
    "llama_index",
    "llama_index_instrumentation",
    "sentence_transformers",
    "sentence_transformers_echo",
    "torch",
    "wrapt",
}


def warn(warning: Warning) -> None:
    """Issue a warning that points at the line of the caller's code, not at a line of this package or of a framework."""
    level = 1
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and _is_between(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)


def _is_between(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package in _BETWEEN or Path(__file__).parent in Path(frame.f_code.co_filename).parents
