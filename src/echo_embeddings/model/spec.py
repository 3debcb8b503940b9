"""Which model, and how to load it. Only this module tells a name, a loaded model and the built-in one apart."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from echo_embeddings.config import presets
from echo_embeddings.config.config import EchoConfig
from echo_embeddings.config.files import CONFIG_FILE, read_object
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
        """The same spec with the packaged adapter that goes into the weights before anything else, if there is one.

        That is the one that ``config`` was trained with. A folder with an adapter brings its own weights: what they
        were trained on top of belongs to them, whatever the config.

        Raises:
            ConfigError: the packaged adapter is not installed or belongs to another model, or two adapters would meet
                that were not trained together.
        """
        name, beneath = config.packaged_adapter, None
        if self._is_adapter(self.model):
            beneath = self._beneath(self.model)
            self._require_together(name, beneath)
        elif name is not None:
            presets.adapter_folder(name)
            self._require_builtin(name)
        if self.adapter is not None:
            self._require_single(name)
        if beneath is not None:
            presets.adapter_folder(beneath)
        return replace(self, packaged=name if beneath is None else beneath)

    def _require_together(self, name: str | None, beneath: str | None) -> None:
        """Check a config's packaged adapter against the one that the adapter in the model's folder was trained on."""
        if self.adapter is not None:
            raise ConfigError(
                f"{self.name!r} holds an adapter, and adapter={self.adapter!r} is another; merge the first into its "
                "model: EchoEncoder(folder).save_pretrained(merged), then EchoEncoder(merged, adapter=...)"
            )
        if name not in (None, beneath):
            under = "without a packaged adapter" if beneath is None else f"on top of {beneath!r}"
            raise ConfigError(
                f"the config has the packaged adapter {name!r}, but the adapter in {self.name!r} was trained {under}; "
                "leave the config out to take the one that is saved there, or use one without an adapter, such as "
                "config='late-echo'"
            )

    def _require_builtin(self, name: str) -> None:
        if self.model is not None:
            raise ConfigError(
                f"the config has the packaged adapter {name!r}, which was trained for the built-in {builtin.NAME} and "
                f"does not fit {self.name!r}; leave the model out, use config='late-echo', or train an adapter of your "
                "own"
            )

    def _require_single(self, name: str | None) -> None:
        if name is not None:
            raise ConfigError(
                f"the config has the packaged adapter {name!r}, and adapter={self.adapter!r} is another; leave one "
                "out: adapter=, or the config's by config='zero-shot' or config.replace(packaged_adapter=None)"
            )
        if (
            self.adapter is not None
            and self._is_adapter(self.adapter)
            and (beneath := self._beneath(self.adapter)) is not None
        ):
            raise ConfigError(
                f"adapter={self.adapter!r} was trained on top of the packaged adapter {beneath!r} and works only "
                "together with it; load both with the config that is saved there: EchoEncoder(folder)"
            )

    @staticmethod
    def _is_adapter(model: Any) -> bool:
        """Whether this is a folder with an adapter and no model."""
        folder = Path(model) if isinstance(model, str) else None
        return (
            folder is not None and (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
        )

    @staticmethod
    def _beneath(folder: str) -> str | None:
        """The packaged adapter that the adapter in a folder was trained on top of, as its saved config says."""
        path = Path(folder) / CONFIG_FILE
        name = read_object(path).get("packaged_adapter") if path.exists() else None
        return None if name is None else str(name)

    def __getstate__(self) -> dict[str, Any]:
        if self.is_loaded:
            raise pickle.PicklingError(
                "an encoder around an already loaded model cannot be pickled, because its weights could not be loaded "
                "again; use save_pretrained(folder) and pickle EchoEncoder(folder)"
            )
        return dict(vars(self))
