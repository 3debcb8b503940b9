"""The options of an encoder, checked without loading anything. The constructor, frameworks and commands share them."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from echo_embeddings.config.config import EchoConfig, Length, require_length
from echo_embeddings.errors import ConfigError, ModelError
from echo_embeddings.text.truncation import ON_TRUNCATE
from echo_embeddings.types import require_whole
from echo_embeddings.vectors.precision import require_precision

__all__ = ["SPEED", "EncoderOptions"]

#: The speed-ups that can be switched off by name; their code is in ``forward/speed`` and ``forward/last_layer``.
SPEED = ("block_attention", "fused_layers", "last_layer", "malloc", "packed_attention", "prefix")
# Names of dtypes that a model can compute in, and of the kinds of devices that torch and its plug-ins know. They stand
# here so that a wrong name is said before torch is imported.
_DTYPES = frozenset({"auto", "int8", "float16", "half", "bfloat16", "float32", "float", "float64", "double"})
_DEVICES = frozenset(
    {"cpu", "cuda", "mps", "xpu", "hpu", "npu", "xla", "meta"} | {"ipu", "mlu", "mtia", "maia", "musa", "privateuseone"}
)


@dataclass(frozen=True)
class EncoderOptions:
    """Which model to load, which vectors to make, and how to run. ``EchoEncoder.from_options`` makes the encoder.

    Args:
        model: a hub id, a folder or a ``.gguf`` file; ``None`` for the built-in model.
        config: an ``EchoConfig`` or the name of a preset; ``None`` for the one saved with the model, else the default.
        adapter: hub id or folder of a PEFT adapter to merge into the weights.
        dimensions: keep only the first dimensions of each vector, such as 256; ``None`` for all.
        precision: of the vectors: ``"float32"``, ``"float16"``, ``"int8"`` or ``"ubinary"`` (``vectors/precision.py``).
        max_length: the most content tokens of a text that are read at once; ``"context"`` for as many as fit the
            model's context, ``None`` for the config's.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; ``None`` for the best device of the machine.
        devices: several devices, with a worker process for each; ``None`` for one device.
        dtype: ``"auto"``, ``"int8"``, or a torch dtype, such as ``torch.float32`` or ``"float32"``.
        compiled: let torch compile the decoder layers.
        speed: speed-ups to switch off, such as ``{"block_attention": False}``; ``False`` switches all off. Use it to
            find out where a wrong vector comes from; ``EchoEncoder.describe`` lists them.
        batch_tokens: tokens a batch, padding included; ``None`` for a number that suits the machine.
        on_truncate: what to do with longer texts: ``"warn"``, raise an ``"error"``, ``"ignore"``, or ``"split"`` them
            into stretches, so that all of a text is in its vector.
        model_kwargs: for transformers' ``from_pretrained``.

    Raises:
        ConfigError: a value cannot work; the message names it and what is valid.
        ModelError: ``device`` or ``dtype`` has an unknown name; ``model`` or ``adapter`` can be the name of nothing.
        TypeError: a value has the wrong type.
    """

    model: str | None = None
    config: EchoConfig | str | None = None
    adapter: str | os.PathLike[str] | None = None
    dimensions: int | None = None
    precision: str = "float32"
    max_length: Length | None = None
    device: str | None = None
    devices: Sequence[str] | None = None
    dtype: Any = "auto"
    compiled: bool = False
    speed: Mapping[str, bool] | bool | None = None
    batch_tokens: int | None = None
    on_truncate: str = "warn"
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "adapter"):
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
        if self.on_truncate not in ON_TRUNCATE:
            raise ConfigError(f"on_truncate={self.on_truncate!r} is unknown; choose one of {', '.join(ON_TRUNCATE)}")
        if self.config is not None and not isinstance(self.config, EchoConfig | str):
            raise TypeError(f"config must be an EchoConfig or a preset's name, not {type(self.config).__name__}")
        self._check_numbers()
        if isinstance(self.config, str):
            object.__setattr__(self, "config", EchoConfig.preset(self.config))
        if isinstance(self.devices, list):
            object.__setattr__(self, "devices", tuple(self.devices))
        object.__setattr__(self, "model_kwargs", dict(self.model_kwargs or {}))
        if "device" in self.model_kwargs:
            raise ConfigError(
                f"model_kwargs are for from_pretrained; device is an option of its own: "
                f"device={self.model_kwargs['device']!r}"
            )
        self._check_names()
        require_precision(self.precision)
        _ = self.off

    def _check_numbers(self) -> None:
        if self.max_length is not None:
            require_length(self.max_length)
        for name in ("dimensions", "batch_tokens"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), ConfigError)

    def _check_names(self) -> None:
        for name in ("model", "adapter"):
            _require_name(name, getattr(self, name))
        if isinstance(self.dtype, str) and self.dtype not in _DTYPES and not self.dtype.startswith("float8"):
            raise ModelError(f"dtype={self.dtype!r} is unknown; use 'auto', 'float32', 'bfloat16', 'float16' or 'int8'")
        if isinstance(self.device, str) and self.device.partition(":")[0] not in _DEVICES:
            raise ModelError(
                f"device={self.device!r} cannot be used: Expected one of cpu, cuda, mps, xpu, or one with a number "
                "such as cuda:1; leave it out to take the best"
            )

    @property
    def off(self) -> frozenset[str]:
        """Names of the speed-ups that are switched off.

        Raises:
            ConfigError: ``speed`` has an unknown name.
        """
        if isinstance(self.speed, bool) or self.speed is None:
            return frozenset(SPEED) if self.speed is False else frozenset()
        if unknown := sorted(set(self.speed) - set(SPEED)):
            raise ConfigError(f"speed names {unknown[0]!r}, which is unknown; choose from {', '.join(SPEED)}")
        return frozenset(name for name, wanted in self.speed.items() if not wanted)

    def applied_to(self, config: EchoConfig) -> EchoConfig:
        """A copy of ``config`` with the ``max_length`` and the ``dimensions`` of these options, where they are set."""
        if self.max_length is not None:
            config = config.replace(max_length=self.max_length)
        return config.truncated(self.dimensions)

    def replace(self, **changes: Any) -> EncoderOptions:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names of all fields."""
        return frozenset(field.name for field in fields(cls))


def _require_name(argument: str, name: Any) -> None:
    """Check that a name may be a path or a hub id: the system refuses even to look for some.

    Raises:
        ModelError: it may not.
    """
    if not isinstance(name, str):
        return
    try:
        os.stat(name)  # noqa: PTH116 - Path does not tell what is wrong
    except ValueError:
        reason = "it has a character that no name has"
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return
        reason = f"it has {len(name):,} letters"
    else:
        return
    raise ModelError(
        f"{argument}={name[:40]!r}... is no path and no hub id ({reason}); give a hub id, a folder or a .gguf file"
    )
