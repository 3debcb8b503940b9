"""Count what each call truncates; then warn, raise an error or stay silent, as the user wishes.

Knows texts and token counts only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from echo_embeddings.errors import TruncationError, TruncationWarning, warn

from .layout import Content

__all__ = ["ON_TRUNCATE", "Truncated", "TruncationCount", "in_one_call", "one_call"]

#: What can be done about texts over ``max_length``; the values of ``EchoEncoder(on_truncate=)``.
ON_TRUNCATE = ("warn", "error", "ignore", "split")


@dataclass(frozen=True)
class Truncated:
    """How much an encoder has truncated so far.

    Attributes:
        texts: number of texts that were longer than ``max_length`` and were truncated.
        tokens: number of content tokens that were left out, over all those texts.
    """

    texts: int = 0
    tokens: int = 0


@dataclass
class TruncationCount:
    """How much one call has truncated so far.

    Args:
        policy: one of ``ON_TRUNCATE``.
        max_length: the config's, to explain a smaller limit in messages.
        limited_by: what a user changes to have longer texts embedded.
        silenced_by: what a user changes to have no warning.
        split_by: what a user changes to have all of a long text read; empty where that cannot be.
        left_out: for each truncated text so far, how many of its tokens were left out.
        limit: the most content tokens that a text could have.
    """

    policy: str
    max_length: int | str
    limited_by: str = "max_length"
    silenced_by: str = "on_truncate='ignore'"
    split_by: str = "on_truncate='split'"
    left_out: list[int] = field(default_factory=list)
    limit: int = 0

    def add(self, texts: Sequence[str], contents: Sequence[Content], limit: int) -> None:
        """Count some tokenised texts, before the model runs on them.

        Args:
            texts: the texts, to quote one in an error.
            contents: their tokens, in the same order.
            limit: the most content tokens that a text could have.

        Raises:
            TruncationError: a text is longer, and the policy is ``"error"``.
        """
        long = [(text, content) for text, content in zip(texts, contents, strict=True) if content.truncated]
        self.left_out += [content.truncated for _, content in long]
        self.limit = limit
        if long and self.policy == "error":
            text, content = long[0]
            raise TruncationError(
                f"{len(long)} text(s) are longer than {self._reason()}; the first has {limit + content.truncated}: "
                f"{text[:60]!r}. Split it{self._read()}{self._raise()}, or use "
                f"{self.silenced_by.replace('ignore', 'warn')}",
                texts=len(long),
                tokens=sum(content.truncated for _, content in long),
            )

    def total(self, before: Truncated) -> Truncated:
        """``before`` and this call together."""
        return Truncated(before.texts + len(self.left_out), before.tokens + sum(self.left_out))

    def warn(self) -> None:
        """Under ``"warn"``, issue one ``TruncationWarning`` for the whole call if anything was truncated.

        Within :func:`one_call` it is issued at the end of that block.
        """
        if not self.left_out or self.policy != "warn":
            return
        if (counts := _COUNTS.get()) is not None:
            counts.append(self)
            return
        texts, tokens = len(self.left_out), sum(self.left_out)
        message = (
            f"{texts} text(s) were truncated to {self._reason()}; {tokens} tokens were left out. Split long "
            f"texts{self._read()}{self._raise()}, or silence this with {self.silenced_by}"
        )
        warn(TruncationWarning(message, texts=texts, tokens=tokens))

    @classmethod
    def joined(cls, counts: Sequence[TruncationCount]) -> list[TruncationCount]:
        """Add up the counts that have the same limit."""
        together: dict[tuple[int, int | str], TruncationCount] = {}
        for count in counts:
            limits = (count.limit, count.max_length)
            before = together[limits].left_out if limits in together else []
            together[limits] = replace(count, left_out=before + count.left_out)
        return list(together.values())

    def _read(self) -> str:
        return f", have all of it read with {self.split_by}" if self.split_by else ""

    def _raise(self) -> str:
        # Where the model's context is the limit, a higher max_length would change nothing.
        return f", raise {self.limited_by}" if self.limit == self.max_length else ""

    def _reason(self) -> str:
        if self.limit == self.max_length:
            return f"max_length={self.max_length} tokens"
        return f"{self.limit} tokens, which is what fits the model's context (max_length={self.max_length!r})"


# What the calls within a block of `one_call` have truncated; `None` outside of one.
_COUNTS: ContextVar[list[TruncationCount] | None] = ContextVar("echo_embeddings_counts", default=None)


def in_one_call() -> bool:
    """Whether this code runs within :func:`one_call`."""
    return _COUNTS.get() is not None


@contextmanager
def one_call() -> Iterator[None]:
    """Say once, at the end of the block, what all calls within it have truncated.

    Frameworks split a call of their user into several of ours. The block holds for threads that are started by
    ``asyncio.to_thread``, but for no others.
    """
    if in_one_call():  # the outer block says it
        yield
        return
    counts: list[TruncationCount] = []
    token = _COUNTS.set(counts)
    try:
        yield
    finally:
        _COUNTS.reset(token)
    for count in TruncationCount.joined(counts):
        count.warn()
