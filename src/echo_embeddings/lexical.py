"""Which words a text has, beside what they mean together: how much each says, and how they are compared.

Deep states blur what is rare: a name, a number, a drug. A weighted sum of the model's own input embeddings keeps it,
for the price of a look-up, and stands beside the pooled state (docs/training.md, "Words beside the echo"). This module
holds numbers and knows no model; ``words.py`` looks the embeddings up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .fitted import Fitted

__all__ = ["Lexical"]


class Lexical(Fitted):
    """The lexical part of a vector: ``sum(weights[t] * (embedding[t] - center) @ projection)``, brought to unit length.

    The sum is over the tokens of the text once, however often the template repeats it. The result stands behind the
    pooled state, ``[hidden + dim]``, and the config's transforms map both together.

    Args:
        weights: ``[vocabulary]``, from 0: how much each token says.
        center: ``[hidden]``, taken off each input embedding.
        projection: ``[hidden, dim]``.

    Raises:
        ConfigError: the shapes do not fit each other, or a value is negative, NaN or infinite.
    """

    name = "lexical"

    def __init__(self, weights: Any, center: Any, projection: Any) -> None:
        super().__init__(arrays={"weights": weights, "center": center, "projection": projection})
        shapes = {key: array.shape for key, array in self.arrays.items()}
        lengths = tuple(len(shape) for shape in shapes.values())
        if lengths != (1, 1, 2) or shapes["center"] != shapes["projection"][:1]:
            raise ConfigError(
                f"Lexical needs weights [vocabulary], center [hidden] and projection [hidden, dim], not {shapes}"
            )
        if (self.arrays["weights"] < 0).any():
            token = int(self.arrays["weights"].argmin())
            raise ConfigError(f"Lexical needs weights from 0 up; that of token {token} is negative")

    @classmethod
    def fit(cls, texts: Iterable[NDArray[np.int64]], embeddings: NDArray[np.float32]) -> Lexical:
        """Weigh tokens by their rarity and compare them by whitened embeddings; nothing is trained.

        A token's weight is its inverse document frequency, ``log((n + 1) / (df + 0.5))`` (at least 0.05), over the
        length of its whitened embedding, so that only rarity decides.

        Args:
            texts: the token ids of each of some thousand unlabelled texts.
            embeddings: the model's input embeddings, ``[vocabulary, hidden]``.

        Raises:
            ConfigError: there are no texts.
        """
        frequencies, count = np.zeros(len(embeddings)), 0
        for ids in texts:
            frequencies[np.unique(ids)] += 1
            count += 1
        if count == 0:
            raise ConfigError("Lexical cannot be fitted on no texts; give some thousand like those to come")
        rarity = np.maximum(np.log((count + 1) / (frequencies + 0.5)), 0.05)
        center = embeddings.mean(axis=0, dtype=np.float64)
        centered = embeddings - center
        variances, axes = np.linalg.eigh(centered.T @ centered)
        projection = axes[:, ::-1] / np.sqrt(np.maximum(variances[::-1], 1e-9 * variances[-1]))
        lengths = np.linalg.norm(centered @ projection, axis=1)
        return cls(rarity / np.maximum(lengths, 1e-6), center, projection)

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return int(self.arrays["weights"].shape[0])

    @property
    def hidden(self) -> int:
        """The length of the input embeddings that it maps."""
        return int(self.arrays["projection"].shape[0])

    @property
    def dimension(self) -> int:
        """The length of what it adds to a pooled state."""
        return int(self.arrays["projection"].shape[1])
