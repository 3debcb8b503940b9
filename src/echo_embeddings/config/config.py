"""``EchoConfig``: all that defines a vector besides the weights. It is saved beside them and hashed for caches."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from echo_embeddings.errors import ConfigError, DimensionsWarning, LeftOutWarning, warn
from echo_embeddings.text.template import Template
from echo_embeddings.types import Role, require_whole
from echo_embeddings.vectors.fitted import Fitted
from echo_embeddings.vectors.lexical import Lexical
from echo_embeddings.vectors.precision import Ranges
from echo_embeddings.vectors.transforms import Project, Transform, Truncate, left_out, parted

from . import files, presets

__all__ = ["CONTEXT", "EchoConfig", "Layers", "Length", "require_length"]

POOLING_NAMES = ("last", "mean", "mean_and_last", "weighted_mean")
#: The ``max_length`` of a config that reads as much of a text as fits the model's context.
CONTEXT: Final = "context"
#: What a ``max_length`` may be.
Length = int | Literal["context"]


@dataclass(frozen=True)
class Layers:
    """The layers that a config means for a model of ``depth`` layers.

    Attributes:
        start: the number of layers that run before the copy is made.
        exit: the number of layers after which the copy is pooled.
        depth: how many layers the model has.
        final_norm: whether the model's final norm is applied at the exit.
    """

    start: int
    exit: int
    depth: int
    final_norm: bool


@dataclass(frozen=True)
class EchoConfig:
    """All that defines a vector besides the weights: the template, the layers, the pooling, and what follows it.

    Two encoders with equal configs and equal weights give equal vectors.

    Args:
        template: the words around a document; a ``Template`` or a string with ``{text}``.
        query_template: the same for queries; ``None`` takes ``template``.
        pooling: ``"mean"``, ``"last"``, ``"mean_and_last"`` (half of each) or ``"weighted_mean"`` (by 1, 2, 3, ...),
            over the tokens of the last copy.
        start_layer: where the copy is made. With 0 the tokens are repeated (the paper). With a layer number, or a
            fraction of the depth (a float below 1), the hidden states at that layer are repeated (late echo).
        exit_layer: the layer after which the copy is pooled. ``None`` takes all layers. A number counts layers; a
            negative one counts from the end, so that -1 leaves out the last layer. A float is a fraction of the depth.
        final_norm: whether to apply the model's final norm at the exit; ``None`` does so only if all layers run.
        transforms: fitted maps after pooling, in order; ``EchoEncoder.fit_transforms`` makes them.
        max_length: the most content tokens of a text that are read at once, from 1; further ones are truncated, or read
            afterwards (``EchoEncoder(on_truncate="split")``). Each copy has as many. The encoder takes fewer where all
            copies together would not fit the model's context; ``"context"`` takes as many as fit it.
        packaged_adapter: the name of the adapter in this package that the config was trained with. It is for the
            built-in model, and is merged into the weights when the model is loaded. ``None`` leaves the weights as they
            are. A LoRA adapter of your own does not go here, but into ``EchoEncoder(adapter=...)``.
        lexical: the words of the text, as a second part of the vector beside the echo. ``transforms`` map only the
            echo, except that a ``Truncate`` at their end shortens the whole vector. ``None`` for the echo alone.
        trained_dimensions: the lengths of vectors that the config was made for (Matryoshka learning): with
            ``EchoEncoder(dimensions=)`` others give a warning. ``()`` if nothing is known. It changes no vector.
        ranges: the range of each dimension, for vectors with ``precision="int8"``; ``EchoEncoder.fit_ranges`` makes
            them. Vectors of other precisions do not depend on it. ``None`` if there are none.

    Raises:
        ConfigError: a value cannot work; the message names it and what is valid.
        TypeError: a template, a transform, the lexical part or the ranges are of the wrong type.
    """

    template: str | Template
    query_template: str | Template | None = None
    pooling: str = "mean"
    start_layer: int | float = 0
    exit_layer: int | float | None = None
    final_norm: bool | None = None
    transforms: tuple[Transform, ...] = ()
    max_length: Length = 512
    packaged_adapter: str | None = None
    lexical: Lexical | None = None
    trained_dimensions: tuple[int, ...] = ()
    ranges: Ranges | None = None

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
        require_length(self.max_length)
        adapter = self.packaged_adapter
        if adapter is not None and not (isinstance(adapter, str) and re.fullmatch(r"[a-z0-9-]+", adapter)):
            raise ConfigError(
                f"packaged_adapter={adapter!r}: give the name of a preset with an adapter, such as 'default'; an "
                "adapter in a folder goes in as EchoEncoder(adapter=folder)"
            )
        self._check_parts()
        object.__setattr__(self, "trained_dimensions", tuple(self.trained_dimensions))
        for dimensions in self.trained_dimensions:
            require_whole("trained_dimensions holds a number", dimensions, ConfigError)
        if not isinstance(self.final_norm, bool | None):
            raise ConfigError(f"final_norm={self.final_norm!r}: give True, False or None")
        self._check_layers()

    def _check_parts(self) -> None:
        if not isinstance(self.lexical, Lexical | None):
            raise TypeError(f"lexical={self.lexical!r} is no Lexical; leave it out, or make one by Lexical.fit")
        if not isinstance(self.ranges, Ranges | None):
            raise TypeError(f"ranges={self.ranges!r} is no Ranges; leave it out, or let EchoEncoder.fit_ranges make it")

    def _check_layers(self) -> None:
        start, exit_ = self.start_layer, self.exit_layer
        if isinstance(start, bool) or not isinstance(start, int | float) or not start >= 0:  # NaN is not
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
        """The template for documents and the template for queries."""
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

    @property
    def turns_bits(self) -> bool:
        """Whether ``precision="ubinary"`` takes the bits of turned vectors (``vectors.precision.turned``).

        It does where there are words beside the echo: most numbers of that part are zeros, which have no sign.
        """
        return self.lexical is not None

    def dimension(self, hidden: int) -> int:
        """Number of dimensions of a vector, for a model whose hidden states have ``hidden`` dimensions.

        Raises:
            ConfigError: a transform was fitted on another number of dimensions, or a ``Truncate`` keeps too many.
        """
        maps, truncations = parted(self.transforms)
        for transform in maps:
            hidden = transform.output_dimension(hidden)
        hidden += 0 if self.lexical is None else self.lexical.dimension
        for truncation in truncations:
            hidden = truncation.output_dimension(hidden)
        return hidden

    def layers(self, depth: int) -> Layers:
        """The layers that this config means for a model of ``depth`` layers.

        Raises:
            ConfigError: the numbers do not fulfil ``0 <= start < exit <= depth``.
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
        """A copy of this config with some fields changed.

        With another map or another lexical part, ``trained_dimensions`` and ``ranges`` are unknown, unless given.

        Warns:
            LeftOutWarning: the new ``transforms`` leave out a map that may be trained, and have no other; ``()`` is
                taken as it says.
        """
        after = tuple(changes.get("transforms", self.transforms))
        lost = left_out(self.transforms, after)
        if lost and after and not any(isinstance(one, Project) for one in after):
            message = (
                f"transforms={list(after)} leaves out the map {lost[0]!r}, which may be trained, and vectors are worse "
                "without it. Keep it: transforms=(*config.transforms, ...); for shorter vectors: config.truncated(256)"
            )
            warn(LeftOutWarning(message))
        other_words = "lexical" in changes and changes["lexical"] != self.lexical
        if other_words or parted(after)[0] != parted(self.transforms)[0]:
            changes = {"trained_dimensions": (), "ranges": None, **changes}
        return replace(self, **changes)

    def truncated(self, dimensions: int | None) -> EchoConfig:
        """A copy of this config that keeps only the first ``dimensions`` of each vector; ``None`` keeps all.

        Raises:
            ConfigError: ``dimensions`` is no whole number from 1. If it is more than a vector has, the error comes when
                the model is loaded.
        """
        if dimensions is None:
            return self
        return self.replace(transforms=(*self.transforms, Truncate(dimensions)))

    @property
    def shortened_to(self) -> int | None:
        """The length to which the transforms truncate the whole vector; ``None`` if they do not."""
        return min((truncate.options["dimension"] for truncate in parted(self.transforms)[1]), default=None)

    def require_chunking(self) -> None:
        """Check that chunks of a text can have vectors: ``EchoEncoder.encode_chunks``, and all that is built on it.

        Raises:
            ConfigError: the template for documents pools what follows the text, of which chunks have none.
        """
        if (template := self.template_for("document")).pool_tail:
            raise ConfigError(
                f"the config pools what follows the text in {template.text!r} (pool_tail=True), and a chunk has "
                "nothing there; take a config that pools the text itself, such as 'echo', 'late-echo' or 'classical'"
            )

    def warn_of(self, dimensions: int | None) -> None:
        """Warn of a length of vectors that this config was not made for, if it says for which it was.

        Warns:
            DimensionsWarning: it names them.
        """
        made_for = sorted(self.trained_dimensions)
        if dimensions is not None and made_for and dimensions not in made_for:
            warn(
                DimensionsWarning(
                    f"dimensions={dimensions}: the config was made for {', '.join(map(str, made_for))}, and other "
                    "lengths can be worse than shorter ones of these; choose one of them, or measure with "
                    f"echo-embeddings compare (default@{dimensions})"
                )
            )

    @classmethod
    def preset(cls, name: str) -> EchoConfig:
        """A config by name.

        Each preset is a file in ``config/presets/``, and this list is made from them:

        - ``default``: What `EchoEncoder()` uses: late echo with a trained adapter and map, and the words of the text
          beside it; for the built-in model only.
        - ``zero-shot``: Late echo from layer 18 to layer 24 with standardised vectors; for the built-in model, without
          any training.
        - ``any-model``: What `EchoEncoder(model)` uses for a model without a saved config: late echo from 0.6 to 0.8 of
          the depth, and the words of the text beside it.
        - ``echo``: The method of the paper, for any model: the text stands twice in the prompt, and the mean over the
          second copy is its vector.
        - ``late-echo``: For any model, cheaper than `echo`: the second copy is made of the hidden states at 0.6 of the
          depth, and pooled at 0.8.
        - ``echo-finetuned``: For the fine-tuned checkpoints that the authors released: their two templates and the last
          token.
        - ``compute-matched``: `echo` on half as many tokens of each text, so that it costs as much as `classical`.
        - ``classical``: The baseline of the paper, for any model: the text stands once, and the mean over its tokens is
          its vector.
        - ``classical-last``: `classical` with the last token of the text in place of the mean.
        - ``classical-weighted``: `classical` with a mean in which later tokens weigh more.
        - ``prompt-eol``: The prompt asks for the meaning of the text in one word, and the last token of the prompt is
          the vector.
        - ``pretended-cot``: `prompt-eol` with "After thinking step by step" before it, pooled one layer before the
          last.
        - ``knowledge-enhancement``: `prompt-eol` with a longer prompt about what a sentence means, pooled one layer
          before the last.
        - ``kv-embedding-prompt``: The prompt asks for the text in one word; half of the vector is its last token, half
          the mean over the text and what follows it.

        Raises:
            ConfigError: no preset has that name.
        """
        config = cls._restored(presets.read(name))
        return config.replace(packaged_adapter=name) if presets.has_adapter(name) else config

    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything in this config; with the model's name it is a namespace for caches."""
        content = self.to_dict() | {"format": files.FORMAT}
        content.pop("trained_dimensions", None)
        content["transforms"] = [transform.digest() for transform in self.transforms]
        if self.lexical is not None:
            content["lexical"] = self.lexical.digest()
        if self.ranges is not None:
            content["ranges"] = self.ranges.digest()
        if self.packaged_adapter is not None:
            # The digest and not the name: another version of the adapter gives other vectors.
            content["packaged_adapter"] = presets.digest(self.packaged_adapter)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The part of the config that is JSON; the arrays of transforms, words and ranges are saved beside it."""
        content: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Template):
                value = {
                    name: part for name, part in asdict(value).items() if name not in ("prompt", "special") or part
                }
            elif field.name == "transforms":
                value = [{"name": transform.name, "options": transform.options} for transform in value]
            elif field.name in files.PARTS and value is not None:
                value = value.options
            # Most configs have none of these.
            if value or field.name not in ("packaged_adapter", "lexical", "trained_dimensions", "ranges"):
                content[field.name] = value
        return content

    def save(self, folder: str | Path) -> None:
        """Write ``echo_config.json``, and ``echo_transforms.safetensors`` if anything in the config has arrays.

        Args:
            folder: where; it is made if need be.
        """
        fitted: dict[str, Fitted] = {str(number): transform for number, transform in enumerate(self.transforms)}
        parts = {name: getattr(self, name) for name in files.PARTS}
        fitted |= {name: part for name, part in parts.items() if part is not None}
        files.write(Path(folder).expanduser(), self.to_dict(), fitted)

    @classmethod
    def load(cls, folder: str | Path) -> EchoConfig:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: a file is missing or damaged, has another format, or has a field that is unknown or wrong; the
                message names the file and the field.
        """
        folder = Path(folder).expanduser()
        return cls.from_files(folder / files.CONFIG_FILE, folder / files.ARRAYS_FILE)

    @classmethod
    def from_files(cls, config: Path, arrays: Path | None) -> EchoConfig:
        """Read the two files wherever they are; the cache of a hub keeps each under its own link.

        Args:
            config: the JSON file.
            arrays: the file of the arrays; it may be missing where nothing in the config has arrays.

        Raises:
            ConfigError: as :meth:`load`.
        """
        return cls._restored(files.read(config, arrays))

    @classmethod
    def _restored(cls, stored: files.Stored) -> EchoConfig:
        with stored.errors_named():
            return cls(**files.arguments(stored, [field.name for field in fields(cls)]))


def _as_template(value: object) -> Template:
    if isinstance(value, Template):
        return value
    if isinstance(value, str):
        return Template(value)
    raise TypeError(f"a template must be a string or a Template, not {type(value).__name__}")


def require_length(max_length: object) -> None:
    """Check that a value can be a ``max_length``.

    Raises:
        ConfigError: it cannot.
    """
    is_number = isinstance(max_length, int) and not isinstance(max_length, bool) and max_length >= 1
    if not is_number and max_length != CONTEXT:
        raise ConfigError(
            f"max_length={max_length!r}: give a whole number of at least 1, or {CONTEXT!r} for as many tokens as fit "
            "the model's context"
        )
