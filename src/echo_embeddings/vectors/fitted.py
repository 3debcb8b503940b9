"""The base of all that is fitted or trained and saved with a config: named float32 arrays and a few options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from echo_embeddings.errors import ConfigError
from echo_embeddings.types import Vectors

__all__ = ["Fitted"]


class Fitted:
    """Something with ``arrays`` (float32, read-only) and ``options``. Two objects of equal content are equal.

    Args:
        arrays: by name; NaN, infinity and values beyond float32 are refused.
        options: by name; values that JSON can hold.

    Raises:
        ConfigError: an array has NaN or infinity in it.
    """

    #: What it is saved as.
    name: ClassVar[str]
    #: The arguments of ``__init__`` that are arrays, and those that are options.
    array_names: ClassVar[tuple[str, ...]] = ()
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, arrays: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None) -> None:
        self.arrays: dict[str, Vectors] = {}
        for key, value in (arrays or {}).items():
            # In C order, because safetensors writes memory as it is, also that of a transposed array.
            with np.errstate(over="ignore"):  # too large for float32 is infinite, which is refused below
                array = np.array(value, dtype=np.float32, order="C")
            if not np.isfinite(array).all():
                raise ConfigError(f"{type(self).__name__}: {key} has NaN or infinity in it")
            array.setflags(write=False)
            self.arrays[key] = array
        self.options: dict[str, Any] = dict(options or {})

    def digest(self) -> str:
        """SHA-256 (hex) of name, options and arrays. Equal content has equal digests."""
        sha = hashlib.sha256(repr((self.name, sorted(self.options.items()))).encode())
        for key, array in sorted(self.arrays.items()):
            sha.update(repr((key, array.shape)).encode() + array.tobytes())
        return sha.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fitted) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        shapes = [f"{key}[{'x'.join(map(str, array.shape))}]" for key, array in self.arrays.items()]
        return f"{type(self).__name__}({', '.join([*shapes, *(f'{k}={v!r}' for k, v in self.options.items())])})"
