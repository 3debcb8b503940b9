"""All that defines a vector besides the weights: one frozen object, saved beside them and hashed for caches."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from echo_embeddings.errors import ConfigError
from echo_embeddings.text.template import TEMPLATES, Template
from echo_embeddings.types import Role
from echo_embeddings.vectors.fitted import Fitted
from echo_embeddings.vectors.lexical import Lexical
from echo_embeddings.vectors.transforms import TRANSFORMS, Transform, Truncate

from . import presets

__all__ = ["CONFIG_FILE", "EchoConfig", "Layers", "require_whole"]

CONFIG_FILE = "echo_config.json"
ARRAYS_FILE = "echo_transforms.safetensors"
FORMAT = 1
POOLING_NAMES = ("last", "mean", "weighted_mean")

_Made = TypeVar("_Made", bound=Fitted)


@dataclass(frozen=True)
class Layers:
    """``start_layer`` and ``exit_layer`` of a config, resolved for a model of ``depth`` layers."""

    start: int
    exit: int
    depth: int
    final_norm: bool


@dataclass(frozen=True)
class EchoConfig:
    """What the model reads, which layers run, what is pooled, and the maps after pooling.

    Two encoders with equal configs and equal weights give equal vectors.

    Args:
        template: what a document is wrapped in; a ``Template`` or a string with ``{text}``.
        query_template: the same for queries; ``None`` means ``template``.
        pooling: ``"mean"``, ``"last"`` or ``"weighted_mean"``, over the last copy.
        start_layer: where the copy is made. 0 repeats the tokens (the paper); a layer number or a fraction of the
            depth (a float below 1) repeats the hidden states there (late echo).
        exit_layer: the layer after which the copy is pooled: ``None`` for all layers, a number (negative counts from
            the end, -1 leaves out the last layer), or a fraction of the depth (a float).
        final_norm: apply the model's final norm at the exit. ``None``: only if all layers run.
        transforms: fitted maps after pooling, in order; see ``EchoEncoder.fit_transforms``.
        max_length: how many content tokens of a text are read; each copy has as many. Made smaller by the encoder
            where all copies together would not fit the model's context.
        packaged_adapter: the name of the adapter inside this package that the config was trained with, for the
            built-in model; its weights are merged when the model is loaded. ``None`` for the weights as they are. A
            LoRA adapter of your own is none of the config's: ``EchoEncoder(adapter=...)``.
        lexical: what says which words a text has, beside the echo and behind the transforms that map it: only
            ``Truncate`` at the end of ``transforms`` cuts both. ``None`` for the echo alone.

    Raises:
        ConfigError: a value cannot work; the message names it and what is valid.
    """

    template: str | Template
    query_template: str | Template | None = None
    pooling: str = "mean"
    start_layer: int | float = 0
    exit_layer: int | float | None = None
    final_norm: bool | None = None
    transforms: tuple[Transform, ...] = ()
    max_length: int = 512
    packaged_adapter: str | None = None
    lexical: Lexical | None = None

    def __post_init__(self) -> None:
        for name in ("template", "query_template"):
            value = getattr(self, name)
            if value is not None or name == "template":
                object.__setattr__(self, name, _as_template(value))
        if self.pooling not in POOLING_NAMES:
            raise ConfigError(f"pooling={self.pooling!r} is unknown; choose one of {', '.join(POOLING_NAMES)}")
        object.__setattr__(self, "transforms", tuple(self.transforms))
        for transform in self.transforms:
            if not isinstance(transform, Transform):
                raise TypeError(
                    f"transforms holds {transform!r}, which is no fitted Transform; "
                    "EchoEncoder.fit_transforms(texts, ['standardize']) makes one by name"
                )
        require_whole("max_length", self.max_length, at_least=1)
        adapter = self.packaged_adapter
        if adapter is not None and not (isinstance(adapter, str) and re.fullmatch(r"[a-z0-9-]+", adapter)):
            raise ConfigError(
                f"packaged_adapter={adapter!r}: give the name of a preset with an adapter, such as 'default'; an "
                "adapter in a folder goes in as EchoEncoder(adapter=folder)"
            )
        if not isinstance(self.lexical, Lexical | None):
            raise TypeError(f"lexical={self.lexical!r} is no Lexical; leave it out, or make one by Lexical.fit")
        self._check_layers()

    def _check_layers(self) -> None:
        start, exit_ = self.start_layer, self.exit_layer
        if isinstance(start, bool) or not isinstance(start, int | float) or start < 0:
            raise ConfigError(
                f"start_layer={start!r}: give a layer number from 0, or a fraction of the depth below 1.0"
            )
        if isinstance(start, float) and start >= 1:
            raise ConfigError(f"start_layer={start!r}: a float is a fraction of the depth and must be below 1.0")
        if exit_ is not None and (isinstance(exit_, bool) or not isinstance(exit_, int | float) or exit_ == 0):
            raise ConfigError(f"exit_layer={exit_!r}: give None, a layer number, or a fraction of the depth")
        if isinstance(exit_, float) and not 0 < exit_ <= 1:
            raise ConfigError(f"exit_layer={exit_!r}: a float is a fraction of the depth, above 0.0 and at most 1.0")
        if start and all(template.copies == 1 for template in self.templates):
            raise ConfigError(
                f"start_layer={start!r} has no meaning for template {self.templates[0].text!r}, which holds the text "
                "once; use start_layer=0, or a template with {text} twice"
            )

    @property
    def templates(self) -> tuple[Template, Template]:
        """The templates for documents and for queries."""
        document = _as_template(self.template)
        return document, document if self.query_template is None else _as_template(self.query_template)

    def template_for(self, role: Role) -> Template:
        """The template that texts of this role are laid into."""
        return self.templates[role == "query"]

    @property
    def tells_roles_apart(self) -> bool:
        """Whether a text has one vector as a document and another as a query."""
        document, query = self.templates
        weighs = self.lexical is not None and self.lexical.weight("document") != self.lexical.weight("query")
        return document != query or weighs

    def layers(self, depth: int) -> Layers:
        """Resolve the layer choice for a model of ``depth`` layers.

        Raises:
            ConfigError: not ``0 <= start < exit <= depth``.
        """
        start = round(self.start_layer * depth) if isinstance(self.start_layer, float) else self.start_layer
        if self.exit_layer is None:
            exit_ = depth
        elif isinstance(self.exit_layer, float):
            exit_ = round(self.exit_layer * depth)
        else:
            exit_ = self.exit_layer if self.exit_layer > 0 else depth + self.exit_layer
        if not 0 <= start < exit_ <= depth:
            raise ConfigError(
                f"start_layer={self.start_layer!r} and exit_layer={self.exit_layer!r} mean layers {start} and {exit_} "
                f"of a model with {depth}; they must fulfil 0 <= start < exit <= {depth}"
            )
        final_norm = exit_ == depth if self.final_norm is None else self.final_norm
        return Layers(start, exit_, depth, final_norm)

    def replace(self, **changes: Any) -> EchoConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def truncated(self, dimensions: int | None) -> EchoConfig:
        """The same, keeping the first ``dimensions`` of each vector and of the words beside it; ``None`` for all.

        Raises:
            ConfigError: no whole number from 1. More than a vector has is said when the model is loaded.
        """
        if dimensions is None:
            return self
        return self.replace(transforms=(*self.transforms, Truncate(dimensions)))

    @classmethod
    def preset(cls, name: str) -> EchoConfig:
        """A named configuration.

        ==========================  =============================================================================
        ``default``                 what ``EchoEncoder()`` uses; for the built-in model only (docs/log.md)
        ``zero-shot``               late echo from layer 18 to 24, standardised, for the built-in model; no training
        ``echo``                    the paper, zero-shot: two copies of the tokens, mean of the second (section 4.2)
        ``late-echo``               the copy is made of hidden states at 0.6 of the depth, pooled at 0.8
        ``echo-finetuned``          the released fine-tuned checkpoints: their templates, last token
        ``compute-matched``         ``echo`` on half the content, so at the cost of ``classical`` (section 4.2)
        ``classical``               one copy, mean
        ``classical-last``          one copy, last token
        ``classical-weighted``      one copy, position-weighted mean (SGPT)
        ``prompt-eol``              arXiv 2307.16645: last token of ``... means in one word:"``
        ``pretended-cot``           arXiv 2404.03921: last token, one layer before the last
        ``knowledge-enhancement``   the same paper's longer prompt
        ==========================  =============================================================================

        Raises:
            ConfigError: no preset has that name.
        """
        if name in presets.NAMES:
            config = cls.load(presets.PRESETS_FOLDER / name)
            return config.replace(packaged_adapter=name) if presets.has_adapter(name) else config
        try:
            return _PRESETS[name]
        except (KeyError, TypeError):
            names = ", ".join([*presets.NAMES, *_PRESETS])
            raise ConfigError(f"there is no preset {name!r}; choose one of {names}") from None

    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything in this config: a namespace for caches, together with the model's name."""
        content = self.to_dict() | {"transforms": [transform.digest() for transform in self.transforms]}
        if self.lexical is not None:
            content["lexical"] = self.lexical.digest()
        if self.packaged_adapter is not None:
            content["packaged_adapter"] = presets.digest(self.packaged_adapter)  # another version, other vectors
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The JSON side of the config; the arrays of the transforms are saved beside it."""
        content: dict[str, Any] = {"format": FORMAT}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Template):
                value = {f.name: getattr(value, f.name) for f in fields(value)}
            elif field.name == "transforms":
                value = [{"name": transform.name, "options": transform.options} for transform in value]
            elif field.name == "lexical" and value is not None:
                value = value.options
            # Configs without these are written as they were before there were any.
            if value is not None or field.name not in ("packaged_adapter", "lexical"):
                content[field.name] = value
        return content

    def save(self, folder: str | Path) -> None:
        """Write ``echo_config.json``, and ``echo_transforms.safetensors`` if anything in it has arrays."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fitted: dict[str, Fitted] = {str(i): transform for i, transform in enumerate(self.transforms)}
        if self.lexical is not None:
            fitted[Lexical.name] = self.lexical
        arrays = {f"{name}.{key}": array for name, part in fitted.items() for key, array in part.arrays.items()}
        if arrays:
            from safetensors.numpy import save_file

            save_file(arrays, folder / ARRAYS_FILE)
        else:
            (folder / ARRAYS_FILE).unlink(missing_ok=True)
        (folder / CONFIG_FILE).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> EchoConfig:
        """Read what ``save`` wrote.

        Raises:
            ConfigError: the file is missing, no JSON, from a newer version, or has fields that this version lacks.
        """
        return cls.from_files(Path(folder) / CONFIG_FILE, Path(folder) / ARRAYS_FILE)

    @classmethod
    def from_files(cls, config: Path, arrays: Path | None) -> EchoConfig:
        """Read the two files, wherever they lie (a hub cache keeps each under its own link)."""
        try:
            content = json.loads(config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{config} does not exist; EchoEncoder.save_pretrained writes it") from None
        except ValueError as error:
            raise ConfigError(f"{config} is not valid JSON ({error}); save the model again") from error
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise ConfigError(f"{config} has no format number, so it is no echo config; save the model again")
        if content.pop("format") > FORMAT:
            raise ConfigError(f"{config} was written by a newer echo-embeddings; run pip install -U echo-embeddings")
        if unknown := sorted(set(content) - {field.name for field in fields(cls)}):
            raise ConfigError(f"{config} has the unknown field {unknown[0]!r}; was it edited by hand?")
        try:
            for name in ("template", "query_template"):
                if isinstance(content.get(name), dict):
                    content[name] = Template(**content[name])
            stored = _Arrays(arrays)
            content["transforms"] = _load_transforms(content.get("transforms", []), stored)
            if content.get(Lexical.name) is not None:
                content[Lexical.name] = stored.make(Lexical.name, Lexical, content[Lexical.name])
            return cls(**content)
        except (TypeError, KeyError) as error:
            raise ConfigError(f"{config} cannot be read: {error}; save the model again") from error


class _Arrays:
    """The file of arrays, read when something in the config needs it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def make(self, place: str, kind: type[_Made], options: dict[str, Any]) -> _Made:
        """What is stored under ``place``."""
        arrays = {key.partition(".")[2]: value for key, value in self._stored.items() if key.startswith(f"{place}.")}
        try:
            return kind(**arrays, **options)
        except TypeError as error:
            raise ConfigError(f"the arrays of {kind.name!r} are missing from {self._path}") from error

    @cached_property
    def _stored(self) -> dict[str, Any]:
        if self._path is None or not self._path.exists():
            return {}
        from safetensors.numpy import load_file

        return dict(load_file(self._path))


def _load_transforms(saved: list[dict[str, Any]], stored: _Arrays) -> tuple[Transform, ...]:
    for entry in saved:
        if entry["name"] not in TRANSFORMS:
            raise ConfigError(f"the transform {entry['name']!r} is unknown here; run pip install -U echo-embeddings")
    return tuple(stored.make(str(i), TRANSFORMS[e["name"]], e.get("options", {})) for i, e in enumerate(saved))


def _as_template(value: object) -> Template:
    if isinstance(value, Template):
        return value
    if isinstance(value, str):
        return Template(value)
    raise TypeError(f"a template must be a string or a Template, not {type(value).__name__}")


def require_whole(name: str, value: object, *, at_least: int) -> None:
    """Refuse a field that is no whole number, or too small; raises ``ConfigError``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{name}={value!r}: give a whole number of at least {at_least}")


_ECHO = EchoConfig(TEMPLATES["echo"])
_CLASSICAL = EchoConfig(TEMPLATES["classical"])

_PRESETS: dict[str, EchoConfig] = {
    "echo": _ECHO,
    "late-echo": _ECHO.replace(start_layer=0.6, exit_layer=0.8),
    "echo-finetuned": EchoConfig(TEMPLATES["echo-document"], TEMPLATES["echo-query"], pooling="last"),
    "compute-matched": _ECHO.replace(max_length=_ECHO.max_length // 2),
    "classical": _CLASSICAL,
    "classical-last": _CLASSICAL.replace(pooling="last"),
    "classical-weighted": _CLASSICAL.replace(pooling="weighted_mean"),
    "prompt-eol": EchoConfig(TEMPLATES["prompt-eol"], pooling="last"),
    "pretended-cot": EchoConfig(TEMPLATES["pretended-cot"], pooling="last", exit_layer=-1),
    "knowledge-enhancement": EchoConfig(TEMPLATES["knowledge-enhancement"], pooling="last", exit_layer=-1),
}
