"""The lexical part at work: embeddings looked up, weighed and put beside hidden states. Words know no template."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from .errors import ConfigError
from .lexical import Lexical
from .tokenization import Ids

__all__ = ["Words"]

_SHORTEST = 1e-9  # of a sum that has a direction


class Words:
    """A :class:`Lexical` on the device of a model's input embeddings.

    Args:
        lexical: what is computed.
        embeddings: the model's input embeddings, or anything with such a ``weight``; shared, not copied.

    Raises:
        ConfigError: it was fitted for another model.
    """

    def __init__(self, lexical: Lexical, embeddings: nn.Embedding) -> None:
        known = tuple(embeddings.weight.shape)
        if known != (lexical.vocabulary, lexical.hidden):
            raise ConfigError(
                f"the config's lexical part was fitted for {lexical.vocabulary} tokens with embeddings of "
                f"{lexical.hidden} dimensions, but this model has {known[0]} of {known[1]}; fit one for it, "
                "or use config.replace(lexical=None, transforms=())"
            )
        self._embeddings = embeddings
        self._arrays = [torch.tensor(lexical.arrays[name]) for name in ("weights", "center", "projection")]

    def vectors(self, contents: Sequence[Ids]) -> Float[Tensor, "batch dim"]:
        """The lexical part of each text, given its ids: float32 ``[n, dim]``, unit length or, if nothing counts, 0."""
        rows = [torch.from_numpy(ids) for ids in contents]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        centered, weights, projection = self._weighed(ids, mask)
        sums: Tensor = torch.einsum("btd,bt->bd", centered, weights) @ projection
        return functional.normalize(sums, dim=1, eps=_SHORTEST)

    def tokens(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """The part of each token, such that the mean over those of ``mask`` is the text's own; zeros elsewhere."""
        centered, weights, projection = self._weighed(ids, mask)
        parts: Tensor = (centered * weights.unsqueeze(-1)) @ projection
        norms = torch.linalg.vector_norm(parts.sum(dim=1), dim=-1).clamp(min=_SHORTEST)
        scales: Tensor = mask.sum(dim=1).to(norms.device) / norms
        return parts * scales[:, None, None]

    @torch.no_grad()
    def _weighed(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Centred embeddings of tokens, their weights (0 outside the mask), and the projection."""
        table = self._embeddings.weight
        # sentence-transformers moves a model after it was made.
        self._arrays = [array.to(table.device) for array in self._arrays]
        weights, center, projection = self._arrays
        ids, mask = ids.to(table.device), mask.to(table.device)
        return table[ids].float() - center, weights[ids] * mask, projection
