"""Another attention mask, and nothing else changed: bidirectional, or bidirectional without the first token.

**Bidirectional** is LLM2Vec's first step without its training (arXiv 2404.05961, section 2, "enabling bidirectional
attention"; also the echo paper's table 3): every token sees every other one, positions stay as they are. The prompt and
the mean over the text alone are the classical ones here, so that the mask is the only difference; LLM2Vec leaves its
instruction out of the mean too. Sliding windows look both ways.

**Without the first token** is the proposal of "Look Both Ways and No Sink" (ACL 2025, 2025.acl-long.1113): as above,
and no other token attends to the first one, on which language models pile up their attention. Its code can convert
some of the layers only; which ones, and what is done where there is no BOS token, was not found in a source. Here all
layers are converted, and the first token is whatever stands first: the BOS token for Gemma, "Write" for SmolLM2.

Checked against: the echo paper's table 3 says that removing the mask costs LLaMA-2-7B 4 points of MTEB-MINI and S-LLaMA
4, and wins 9 for Mistral; these models could not be run here, so only the direction can be compared. For "No Sink" no
number was found that can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from echo_embeddings import EchoConfig
from echo_embeddings.forward.pooling import mean_pooling
from echo_embeddings.types import Role

from . import plain
from .method import Embedded, Method, Subject

__all__ = ["Masked", "visible_both_ways", "visible_without_first"]


def visible_both_ways(tokens: int) -> Tensor:
    """Each token sees all: boolean ``[tokens, tokens]``."""
    return torch.ones(tokens, tokens, dtype=torch.bool)


def visible_without_first(tokens: int) -> Tensor:
    """Each token sees all but the first one; the first one sees itself too, for it must see something."""
    visible = visible_both_ways(tokens)
    visible[1:, 0] = False
    return visible


_VISIBLE = {
    "causal": plain.visible_causal,
    "both ways": visible_both_ways,
    "both ways, without the first": visible_without_first,
}


@dataclass(frozen=True)
class Masked(Method):
    """The classical method under a mask.

    Args:
        mask: ``"causal"``, ``"both ways"`` or ``"both ways, without the first"``.
    """

    mask: str

    def embed(self, subject: Subject, texts: Sequence[str], role: Role) -> Embedded:
        rows = plain.around(subject, texts, EchoConfig.preset("classical").template_for(role))
        return plain.embed(subject, rows, mean_pooling, visible=_VISIBLE[self.mask])
