"""What a method is, and the model that it embeds with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.model.architecture import layers_of
from echo_embeddings.text.tokenizer import EchoTokenizer
from echo_embeddings.types import Role

__all__ = ["Embedded", "Method", "Subject"]


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts, and what they cost.

    Attributes:
        vectors: float32 ``[n, dim]``, as pooled: no transform, not of unit length.
        layer_tokens: how many tokens the layers processed, summed over the layers, without padding. A prompt counts for
            every text, also where its beginning is run only once for all of them.
        seconds: processor time of the pass if it was not run now, but for a method that shares it.
    """

    vectors: NDArray[np.float32]
    layer_tokens: int
    seconds: float | None = None


@dataclass(frozen=True)
class Method(ABC):
    """A way from texts to vectors.

    Attributes:
        name: its name in the report.
        source: the paper or code that it comes from.
    """

    name: str
    source: str

    @abstractmethod
    def embed(self, subject: Subject, texts: Sequence[str], role: Role) -> Embedded:
        """Embed texts with a model; ``role`` chooses the prompt where the method has two."""

    @property
    def settings(self) -> str:
        """All that the vectors depend on besides the model and the texts."""
        return repr(self)

    @property
    def is_config(self) -> bool:
        """Whether users of the library have it as a config."""
        return False

    def ends_with_norm(self, depth: int) -> bool:  # noqa: ARG002 - for methods that stop at a layer
        """Whether the model's final norm was applied before pooling, for a model of ``depth`` layers."""
        return True


@dataclass
class Subject:
    """A model that methods are tried on.

    Args:
        model: as transformers loads it.
        tokenizer: its tokenizer.
    """

    model: Any
    tokenizer: Any
    _encoders: dict[Any, EchoEncoder] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.echo_tokenizer = EchoTokenizer(self.tokenizer)

    @property
    def body(self) -> Any:
        """The model without its head."""
        return self.model.base_model

    @property
    def depth(self) -> int:
        """The number of its layers."""
        return len(layers_of(self.body))

    def encoder(self, config: EchoConfig) -> EchoEncoder:
        """The library's encoder; those that run the same layers share one."""
        layers = config.layers(self.depth)
        if layers not in self._encoders:
            encoder = EchoEncoder(self.model, config, tokenizer=self.tokenizer, on_truncate="ignore")
            _ = encoder.runtime  # made now, so that the others share it
            self._encoders[layers] = encoder
        return self._encoders[layers].with_config(config)

    def unembedding(self) -> NDArray[np.float32]:
        """The matrix of the head: ``[vocabulary, dim]``."""
        matrix: NDArray[np.float32] = self.model.get_output_embeddings().weight.detach().float().numpy()
        return matrix

    def normed(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors after the model's final norm."""
        with torch.inference_mode():
            found: NDArray[np.float32] = self.body.norm(torch.from_numpy(vectors)).numpy()
        return found
