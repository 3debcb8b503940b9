"""The ``SentenceTransformer`` around an ``EchoModule``: stock, except that a call of ``encode`` is known as one call.

Stock ``encode`` gives the module one batch after another. The module alone could neither check what the user gave, nor
say only once what was truncated.
"""

from __future__ import annotations

import inspect
from typing import Any

import sentence_transformers
from sentence_transformers.base.model import BaseModel

from echo_embeddings.text.inputs import checked
from echo_embeddings.text.truncation import one_call

__all__ = ["SentenceTransformer", "adopt"]

_NAMES = list(inspect.signature(sentence_transformers.SentenceTransformer.encode).parameters)[1:]


class SentenceTransformer(sentence_transformers.SentenceTransformer):
    """The stock class under its own name, because model cards and messages quote the name of a model's class."""

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        """Embed texts as the stock method does.

        Raises:
            TypeError: the inputs are neither one text nor a sequence of texts; the message says what to pass instead.

        Warns:
            DimensionsWarning: ``truncate_dim``, here or of the model, is a length that the config was not made for.
        """
        given = dict(zip(_NAMES, args, strict=False)) | kwargs
        name = "sentences" if "sentences" in given else "inputs"
        if name in given and not isinstance(given[name], str):
            given[name] = checked(given[name])
        module: Any = self[0]
        dimensions = given.get("truncate_dim")
        module.echo_config.warn_of(self.truncate_dim if dimensions is None else dimensions)
        with one_call():
            if given.get("pool") is not None or isinstance(given.get("device"), list):
                self._count(given, name)
            return super().encode(**given)

    encode.__signature__ = inspect.signature(sentence_transformers.SentenceTransformer.encode)  # type: ignore[attr-defined]

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> Any:
        """Start processes that share the work of ``encode(..., pool=pool)``; this process counts what is truncated."""
        module: Any = self[0]
        policy = module.on_truncate
        module.on_truncate = "ignore"
        try:
            return super().start_multi_process_pool(target_devices)
        finally:
            module.on_truncate = policy

    def _count(self, given: dict[str, Any], name: str) -> None:
        """Count what the processes of a pool will truncate; their warnings would not reach the user."""
        module: Any = self[0]
        texts, prompt = given.get(name, []), given.get("prompt")
        if prompt is None:
            prompt = self.prompts.get(given.get("prompt_name") or self.default_prompt_name or "")
        listed = [texts] if isinstance(texts, str) else texts
        module.count(listed, prompt, given.get("task"), given.get("instruction"))


def adopt(model: BaseModel) -> None:
    """Let ``model`` know its calls, unless it is of a class of the user's own."""
    if type(model) is sentence_transformers.SentenceTransformer:
        model.__class__ = SentenceTransformer
