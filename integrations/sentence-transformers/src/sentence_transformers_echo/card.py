"""The model card of a saved folder: what to install, and a snippet that loads it. Cards know no tensors."""

from __future__ import annotations

import json
from pathlib import Path

from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardData

__all__ = ["REQUIREMENTS", "EchoModelCardData", "add_requirements", "adopt"]

# Cards are read elsewhere, so this is not in the words of this environment. No index has the packages yet.
_INSTALL = "from a checkout of echo-embeddings: pip install . ./integrations/sentence-transformers"

REQUIREMENTS = {
    "sentence-transformers-echo": {
        "specifier": ">=0.1",
        "reason": f"its EchoModule lets the model read a text twice; install it {_INSTALL}",
    }
}


class EchoModelCardData(SentenceTransformerModelCardData):
    """A model card whose snippet has ``trust_remote_code=True``, which loading a module of another package needs."""

    def generate_usage_snippet(self) -> str:
        """The base class's snippet, with ``trust_remote_code=True`` and a line about what to install."""
        name = self.model_id or "sentence_transformers_model_id"
        snippet = super().generate_usage_snippet()
        snippet = snippet.replace(
            f'SentenceTransformer("{name}")', f'SentenceTransformer("{name}", trust_remote_code=True)'
        )
        return snippet.replace("```python\n", f"```python\n# Install {_INSTALL}\n", 1)


def adopt(model: BaseModel) -> None:
    """Let ``model`` write an ``EchoModelCardData``, unless the user gave it a card of another class."""
    data = model.model_card_data
    if type(data) is SentenceTransformerModelCardData:
        data.__class__ = EchoModelCardData


def add_requirements(folder: str) -> None:
    """Add this package to the requirements in ``config_sentence_transformers.json``, if that file exists."""
    path = Path(folder) / "config_sentence_transformers.json"
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["requirements"] = {**config.get("requirements", {}), **REQUIREMENTS}
        path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
