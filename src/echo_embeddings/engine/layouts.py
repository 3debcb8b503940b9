"""Compile templates, and say how long a text may be so that all of its copies fit the model's context."""

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
        model_config: the transformers config of the whole model; its context and its sliding window are used.
        layers: which layers run.
        max_length: the most content tokens that the config allows in a text, or ``"context"``.
    """

    def __init__(self, tokenizer: EchoTokenizer, model_config: Any, layers: Layers, max_length: int | str) -> None:
        text_config = model_config.get_text_config()
        self._context: int | None = getattr(text_config, "max_position_embeddings", None)
        self._window = narrowest_view(text_config, layers.start, layers.exit)
        self._max_length = max_length
        # Not a method: a cached method would hold this object, in a cycle that only the garbage collector frees.
        self._compiled = lru_cache(maxsize=64)(partial(_compiled, tokenizer))
        self._warned: set[str] = set()

    def of(self, template: Template, instruction: str | None = None) -> Layout:
        """The compiled template. Warns once if a sliding window can hide part of the first copy.

        Raises:
            ConfigError: the template has no ``{instruction}`` but one is given, or it has one and none is given.
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
        """The most content tokens of a text: ``max_length``, or fewer if the copies would not fit the context.

        Raises:
            ConfigError: the template alone fills the model's context; or ``max_length`` is ``"context"``, and the model
                does not say how long that is.
        """
        longest = self._max_length
        if self._context is None:
            if not isinstance(longest, int):
                raise ConfigError(
                    f"max_length={longest!r}: the config of this model does not say how long its context is "
                    "(max_position_embeddings); give the number of tokens, such as max_length=2048"
                )
            return longest
        fits = (self._context - layout.overhead) // layout.copies
        if fits < 1:
            raise ConfigError(
                f"the template alone has {layout.overhead} tokens and leaves no room for {layout.copies} copies in the "
                f"model's context of {self._context}; use a shorter template or instruction"
            )
        return min(longest, fits) if isinstance(longest, int) else fits

    def _hidden_from(self, layout: Layout) -> int | None:
        """From how many tokens on a text's last token cannot see the first copy's first token; ``None`` for never."""
        if self._window is None or layout.copies < 2:
            return None
        # The window must reach over two copies and the template's tokens between them.
        return max((self._window - len(layout.literals[1])) // 2 + 1, 1)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warn(WindowWarning(message))


def _compiled(tokenizer: EchoTokenizer, template: Template, instruction: str | None) -> Layout:
    return tokenizer.layout(template, instruction)
