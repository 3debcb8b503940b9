"""What a saved folder says about itself: what to install, and a snippet that loads it. Cards know no tensors."""

from __future__ import annotations

import json
from pathlib import Path

from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardData

__all__ = ["REQUIREMENTS", "EchoModelCardData", "add_requirements", "adopt"]

REQUIREMENTS = {
    "sentence-transformers-echo": {"specifier": ">=0.1", "reason": "its EchoModule lets the model read a text twice"}
}


class EchoModelCardData(SentenceTransformerModelCardData):
    """A model card whose snippet passes the flag without which sentence-transformers loads no module of others."""

    def generate_usage_snippet(self) -> str:
        """The usual snippet, with ``trust_remote_code=True`` and a line about what to install."""
        name = self.model_id or "sentence_transformers_model_id"
        snippet = super().generate_usage_snippet()
        snippet = snippet.replace(
            f'SentenceTransformer("{name}")', f'SentenceTransformer("{name}", trust_remote_code=True)'
        )
        return snippet.replace("```python\n", "```python\n# Needs: pip install sentence-transformers-echo\n", 1)


def adopt(model: BaseModel) -> None:
    """Make ``model`` write such a card, unless it has a card of the user's own kind."""
    data = model.model_card_data
    if type(data) is SentenceTransformerModelCardData:
        data.__class__ = EchoModelCardData


def add_requirements(folder: str) -> None:
    """Add what must be installed to ``config_sentence_transformers.json``, which is written before the modules are."""
    path = Path(folder) / "config_sentence_transformers.json"
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["requirements"] = {**config.get("requirements", {}), **REQUIREMENTS}
        path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
