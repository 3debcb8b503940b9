"""Daft: a provider for its function ``embed_text``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echo_embeddings.defaults import known_width
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import ConfigError, InputError
from echo_embeddings.extras import require
from echo_embeddings.model import builtin
from echo_embeddings.model.hub import find_file
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.types import Role, require_whole

from .rows import Cell, embed_rows, require_role

require("daft", "daft", "EchoProvider")

import daft  # noqa: E402
from daft.ai.protocols import TextEmbedder, TextEmbedderDescriptor  # noqa: E402
from daft.ai.provider import Provider  # noqa: E402
from daft.ai.typing import EmbeddingDimensions, UDFOptions  # noqa: E402

if TYPE_CHECKING:
    from daft.ai.typing import Embedding, Options

__all__ = ["EchoProvider"]


class EchoProvider(Provider):
    """Give Daft's ``embed_text`` an encoder: ``embed_text(col("text"), provider=EchoProvider(), role="query")``.

    ``embed_text`` also takes ``model``, ``dimensions``, ``role`` and any other field of ``EncoderOptions``, which then
    stand in the place of those given here. Its type is ``Embedding[Float32; n]`` with the length that the config gives,
    and a null stays null.

    Args:
        options: which model, which vectors, and how each encoder runs; ``None`` for the defaults.
        role: ``"document"`` for what is searched in (the default), ``"query"`` for what is searched for.
        name: how the provider is called in a Daft session.
        concurrency: encoders that run at the same time, each with its weights.
        num_gpus: GPUs of each.

    Raises:
        ConfigError: an argument cannot work.
    """

    def __init__(
        self,
        options: EncoderOptions | None = None,
        *,
        role: str = "document",
        name: str = "echo",
        concurrency: int = 1,
        num_gpus: int = 0,
    ) -> None:
        self._options, self._role, self._name = _in_floats(options or EncoderOptions()), require_role(role), name
        require_whole("concurrency", concurrency, ConfigError)
        require_whole("num_gpus", num_gpus, ConfigError, at_least=0)
        self._resources = (concurrency, num_gpus)

    @property
    def name(self) -> str:
        """How the provider is called in a Daft session."""
        return self._name

    def get_text_embedder(
        self, model: str | None = None, dimensions: int | None = None, **options: Any
    ) -> TextEmbedderDescriptor:
        """Describe the encoder that Daft will make where it runs; nothing is loaded.

        Args:
            model: as in ``EncoderOptions``; ``None`` for that of the provider.
            dimensions: keep only the first dimensions of a vector; ``None`` for those of the provider.
            options: ``role``, and other fields of ``EncoderOptions``.

        Raises:
            ConfigError: an option is unknown, or cannot work.
        """
        role = require_role(options.pop("role", self._role))
        if unknown := sorted(options.keys() - EncoderOptions.names()):
            known = ", ".join(sorted({"role", *EncoderOptions.names()}))
            raise ConfigError(f"embed_text(..., {unknown[0]}=): there is no such option; choose from {known}")
        given = {name: value for name, value in (("model", model), ("dimensions", dimensions)) if value is not None}
        wanted = _in_floats(self._options.replace(**given, **options))
        return _Descriptor(self._name, wanted, role, *self._resources)


@dataclass
class _Descriptor(TextEmbedderDescriptor):
    provider: str
    options: EncoderOptions
    role: Role
    concurrency: int
    num_gpus: int

    def get_provider(self) -> str:
        return self.provider

    def get_model(self) -> str:
        return self.options.model or builtin.NAME

    def get_options(self) -> Options:
        given = {field.name: getattr(self.options, field.name) for field in fields(self.options)}
        return given | {"role": self.role}

    def get_dimensions(self) -> EmbeddingDimensions:
        return EmbeddingDimensions(size=_dimension(self.options), dtype=daft.DataType.float32())

    def get_udf_options(self) -> UDFOptions:
        # An error would be the same the next time.
        return UDFOptions(concurrency=self.concurrency, num_gpus=self.num_gpus or None, max_retries=0)

    def instantiate(self) -> TextEmbedder:
        return _Embedder(self.options, self.role)


class _Embedder(TextEmbedder):
    def __init__(self, options: EncoderOptions, role: Role) -> None:
        self._encoder, self._role = EchoEncoder.from_options(options), role

    def embed_text(self, text: list[str]) -> list[Embedding]:
        """Embed a batch of Daft's in one call of the encoder; what is null stays null."""
        rows = [row for row, one in enumerate(text) if one is not None]

        def place(number: int) -> str:
            return f"row {rows[number] + 1} of a batch of {len(text)}"

        content = [_checked(text[row], place(number)) for number, row in enumerate(rows)]
        vectors = embed_rows(self._encoder, content, self._role, place, skip=False).vectors
        found: dict[int, Any] = dict(zip(rows, vectors, strict=True))
        embeddings: list[Any] = [found.get(row) for row in range(len(text))]
        return embeddings


def _in_floats(options: EncoderOptions) -> EncoderOptions:
    """The options, if their vectors are what Daft's embeddings are."""
    if options.precision != "float32":
        raise ConfigError(
            f"precision={options.precision!r}: Daft's embeddings are of float32; leave it out, and make the column "
            "smaller afterwards"
        )
    return options


def _checked(value: object, place: str) -> Cell:
    if isinstance(value, str):
        return value
    return InputError(f"{place}: {type(value).__name__} ({value!r:.40}) is not a text; cast the column to string")


def _dimension(options: EncoderOptions) -> int:
    """The length of a vector: what the config makes of the model's hidden states. The weights are not loaded."""
    encoder = EchoEncoder.from_options(options)
    width = _width(ModelSpec(options.model, model_kwargs=dict(options.model_kwargs)))
    return encoder.dimension if width is None else encoder.config.dimension(width)


def _width(spec: ModelSpec) -> int | None:
    """The size of a model's hidden states; ``None`` where it stands in no ``config.json``."""
    if (width := known_width(spec)) is not None:
        return width
    found = find_file(spec, "config.json")
    return None if found is None else known_width(ModelSpec(str(Path(found).parent)))
