"""Which model, and how to load it. Only this module tells a name, a loaded model and the built-in one apart."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from echo_embeddings.config import presets
from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import ConfigError

from . import builtin

__all__ = ["ModelSpec"]


@dataclass(frozen=True)
class ModelSpec:
    """A model, loaded or not, and how to load it.

    Args:
        model: ``None`` for the built-in model; or a hub id, a folder, a ``.gguf`` file, or a loaded model. In a path,
            here and in ``adapter``, ``~`` stands for the home folder.
        tokenizer: the tokenizer of a loaded model, which needs one; else ``None``.
        adapter: hub id or folder of a PEFT adapter; ``None`` for none.
        device: device name; ``None`` takes the best one.
        dtype: ``"auto"``, ``"int8"``, or a torch dtype or its name.
        model_kwargs: further arguments of transformers' ``from_pretrained``.
        packaged: the name of a packaged adapter to merge first; set by :meth:`for_config`.

    Raises:
        TypeError: a loaded model comes without a tokenizer, or with an adapter or ``dtype="int8"``.
    """

    model: Any = None
    tokenizer: Any = None
    adapter: str | None = None
    device: str | None = None
    dtype: Any = "auto"
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    packaged: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, os.PathLike):
            object.__setattr__(self, "model", os.fspath(self.model))
        for name in ("model", "adapter"):
            value = getattr(self, name)
            if isinstance(value, str) and value.startswith("~"):
                object.__setattr__(self, name, os.fspath(Path(value).expanduser()))
        if (cache := self.model_kwargs.get("cache_dir")) is not None:
            object.__setattr__(self, "model_kwargs", self.model_kwargs | {"cache_dir": str(Path(cache).expanduser())})
        if self.is_loaded and self.tokenizer is None:
            raise TypeError("a loaded model needs its tokenizer: EchoEncoder(model, tokenizer=tokenizer)")
        if self.is_loaded and self.adapter is not None:
            raise TypeError("adapter= goes with a model's name; load the adapter into your model yourself (peft)")
        if self.is_loaded and self.is_int8:
            raise TypeError(
                "dtype='int8' goes with a model's name; a loaded model is not changed, so save it and use "
                "EchoEncoder(folder, dtype='int8')"
            )

    @property
    def is_loaded(self) -> bool:
        """Whether the user gave a loaded model, not a name."""
        return self.model is not None and not isinstance(self.model, str)

    @property
    def is_int8(self) -> bool:
        """Whether the decoder layers' weights are kept in 8 bits."""
        return bool(self.dtype == "int8")

    @property
    def name(self) -> str:
        """The name of the model in messages and caches."""
        if self.model is None:
            return builtin.NAME
        if self.is_loaded:
            return f"{type(self.model).__name__}:{getattr(self.model, 'name_or_path', '')}"
        return str(self.model)

    def location(self) -> str:
        """What transformers loads: a hub id, folder or file. Downloads the built-in model if it is not there yet."""
        return os.fspath(builtin.folder()) if self.model is None else str(self.model)

    def for_config(self, config: EchoConfig) -> ModelSpec:
        """The same spec with the packaged adapter that ``config`` was trained with, if it has one.

        Raises:
            ConfigError: that adapter is not installed or belongs to another model, or the spec has an ``adapter`` too.
        """
        name = config.packaged_adapter
        if name is None:
            return replace(self, packaged=None)
        presets.adapter_folder(name)
        if self.adapter is not None:
            raise ConfigError(
                f"the config has the packaged adapter {name!r}, and adapter={self.adapter!r} is another; leave one "
                "out: adapter=, or the config's by config='zero-shot' or config.replace(packaged_adapter=None)"
            )
        if self.model is not None and not self._is_adapter_folder():
            raise ConfigError(
                f"the config has the packaged adapter {name!r}, which was trained for the built-in {builtin.NAME} and "
                f"does not fit {self.name!r}; leave the model out, use config='late-echo', or train an adapter of your "
                "own"
            )
        return replace(self, packaged=name)

    def _is_adapter_folder(self) -> bool:
        """Whether the model is a folder with an adapter. It may have been trained on top of the packaged one."""
        folder = None if self.is_loaded else Path(self.model)
        return (
            folder is not None and (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
        )

    def __getstate__(self) -> dict[str, Any]:
        if self.is_loaded:
            raise pickle.PicklingError(
                "an encoder around an already loaded model cannot be pickled, because its weights could not be loaded "
                "again; use save_pretrained(folder) and pickle EchoEncoder(folder)"
            )
        return dict(vars(self))
