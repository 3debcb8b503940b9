"""Compiled templates, and how long a text may be so that all of its copies fit the model."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from echo_embeddings.config.config import Layers
from echo_embeddings.errors import ConfigError, WindowWarning, warn
from echo_embeddings.model.architecture import narrowest_view
from echo_embeddings.text.layout import Layout
from echo_embeddings.text.template import Template
from echo_embeddings.text.tokenizer import EchoTokenizer

__all__ = ["Layouts"]


class Layouts:
    """The layouts of templates for one tokenizer and one model.

    Args:
        tokenizer: compiles templates.
        model_config: the transformers config of the whole model, for its context and its sliding window.
        layers: which layers run.
        max_length: the most content tokens that the config allows.
    """

    def __init__(self, tokenizer: EchoTokenizer, model_config: Any, layers: Layers, max_length: int) -> None:
        text_config = model_config.get_text_config()
        self._context: int | None = getattr(text_config, "max_position_embeddings", None)
        self._window = narrowest_view(text_config, layers.start, layers.exit)
        self._max_length = max_length
        # No method of this object, which would keep it, and the tokenizer, until the next garbage collection.
        self._compiled = lru_cache(maxsize=64)(partial(_compiled, tokenizer))
        self._warned: set[str] = set()

    def of(self, template: Template, instruction: str | None = None) -> Layout:
        """The compiled template; warns once where a sliding window hides part of the first copy.

        Raises:
            ConfigError: an instruction has no place in the template, or is needed and missing.
        """
        layout = self._compiled(template, instruction)
        hidden_from = self._hidden_from(layout)
        if hidden_from is not None and (longest := self.limit(layout)) >= hidden_from:
            self._warn(
                f"every layer of this model looks back at most {self._window} tokens: in texts of {hidden_from} tokens "
                "or more the second copy can no longer see the beginning of the first. Set "
                f"max_length={hidden_from - 1} (now {longest}) to keep the echo whole"
            )
        return layout

    def limit(self, layout: Layout) -> int:
        """The most content tokens of a text: ``max_length``, or less where the copies would not fit the context.

        Raises:
            ConfigError: the template alone fills the model's context.
        """
        if self._context is None:
            return self._max_length
        fits = (self._context - layout.overhead) // layout.copies
        if fits < 1:
            raise ConfigError(
                f"the template alone has {layout.overhead} tokens and leaves no room for {layout.copies} copies in the "
                f"model's context of {self._context}; use a shorter template or instruction"
            )
        return min(self._max_length, fits)

    def _hidden_from(self, layout: Layout) -> int | None:
        """The shortest text whose last token cannot see its first copy's first token; ``None`` if there is none."""
        if self._window is None or layout.copies < 2:
            return None
        # From the first token of the first copy to the last of the second: two copies and what is between them.
        return max((self._window - len(layout.literals[1])) // 2 + 1, 1)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warn(WindowWarning(message))


def _compiled(tokenizer: EchoTokenizer, template: Template, instruction: str | None) -> Layout:
    return tokenizer.layout(template, instruction)
