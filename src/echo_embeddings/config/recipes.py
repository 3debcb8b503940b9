"""What a model without a saved config is run with: recipes that we measured for some models, and a rule for all others.

``presets/models/NAME.json`` has these fields:

- ``about``: which model it is, in words;
- ``measured``: where, and what the choice was made from;
- ``model``: the fields of the model's ``config.json`` that tell it from others; see :class:`Facts`;
- ``config``: what differs from the preset ``any-model``, which is the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import presets
from .config import EchoConfig
from .files import read_object

__all__ = ["RULE", "WIDTHS", "Facts", "Recipe", "recipe_for", "recipes"]

#: The preset that is the rule for all models that no recipe is for.
RULE = "any-model"

#: How transformers' configs call the hidden size.
WIDTHS = ("hidden_size", "n_embd", "d_model")
# And the number of layers.
_DEPTHS = ("num_hidden_layers", "n_layer")
_WEIGHTS = ("document_weight", "query_weight")


@dataclass(frozen=True)
class Facts:
    """What a recipe knows a model by: fields of its ``config.json``; of one with images, those of its text model."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Facts | None:
        """Read them from the content of a ``config.json``; ``None`` if one does not stand there."""
        text = content.get("text_config") or content
        if not isinstance(text, Mapping):
            return None
        kind, numbers = text.get("model_type"), []
        for names in (WIDTHS, _DEPTHS):
            number = next(filter(None, map(text.get, names)), None)
            if not isinstance(number, int) or isinstance(number, bool) or number <= 0:
                return None
            numbers.append(number)
        return cls(kind, *numbers) if isinstance(kind, str) else None


@dataclass(frozen=True)
class Recipe:
    """A config that was measured for one model.

    Attributes:
        name: the name of its file.
        about: which model it is, in words.
        measured: where, and what the choice was made from.
        model: what the model is known by.
        config: what it is run with.
    """

    name: str
    about: str
    measured: str
    model: Facts
    config: EchoConfig


def recipe_for(facts: Facts | None) -> Recipe | None:
    """The recipe that was measured for a model; ``None`` if there is none."""
    return next((one for one in recipes() if one.model == facts), None)


def recipes() -> tuple[Recipe, ...]:
    """All recipes, by name."""
    return _read(presets.PRESETS_FOLDER / "models")


@lru_cache(maxsize=2)
def _read(folder: Path) -> tuple[Recipe, ...]:
    return tuple(_recipe(path) for path in sorted(folder.glob("*.json")))


def _recipe(path: Path) -> Recipe:
    content = read_object(path)
    changes, rule = dict(content["config"]), EchoConfig.preset(RULE)
    weights = {name: changes.pop(name) for name in _WEIGHTS}
    changes["lexical"] = None if rule.lexical is None else rule.lexical.weighted(**weights)
    facts = Facts(**content["model"])
    return Recipe(path.stem, content["about"], content["measured"], facts, rule.replace(**changes))
