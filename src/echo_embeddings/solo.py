"""One device: texts through the model in this process, window by window. A crew does the same with several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .inputs import WINDOW
from .template import Template
from .truncation import Cuts
from .vectors import Vectors

if TYPE_CHECKING:
    from .runtime import Runtime
    from .tokenization import Content, Layout

__all__ = ["pool"]

# Of prose, in a token.
_CHARACTERS = 4


def pool(
    runtime: Runtime,
    texts: Sequence[str],
    template: Template,
    instruction: str | None,
    cuts: Cuts,
    advance: Callable[[int], object],
) -> Vectors:
    """Pooled vectors of texts, transforms applied, not yet of unit length: float32 ``[n, dim]``.

    Args:
        runtime: the loaded model.
        texts: in any order; the vectors come in theirs.
        template: one of the config's.
        instruction: for it.
        cuts: told what was cut, before the model runs on that window.
        advance: told how many texts each finished batch held.
    """
    layout = runtime.layout(template, instruction)
    vectors = np.empty((len(texts), runtime.dimension), dtype=np.float32)
    windows = _windows(texts, runtime, layout)
    read = partial(runtime.contents, template=template, instruction=instruction)

    def seen() -> Iterator[tuple[Sequence[str], list[Content]]]:
        for window, contents in zip(windows, _ahead(read, windows), strict=True):
            cuts.add(window, contents, runtime.limit(layout))
            yield window, contents

    start = 0
    for part in runtime.stream(seen(), layout, advance):
        vectors[start : start + len(part)] = part
        start += len(part)
    return vectors


def _windows(texts: Sequence[str], runtime: Runtime, layout: Layout) -> list[Sequence[str]]:
    """Texts that are tokenised together: many, so that batches are of like lengths, where they are padded.

    Otherwise about a batch of them, so that a GPU need not wait until all have been read.
    """
    if len(texts) < 2 or not runtime.packs:
        return [texts[start : start + WINDOW] for start in range(0, len(texts), WINDOW)]
    tokens = np.cumsum([layout.total(len(text) // _CHARACTERS) for text in texts])
    number = np.maximum(tokens // runtime.budget, np.arange(len(texts)) // WINDOW)
    starts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(texts)]
    return [texts[start:end] for start, end in pairwise(starts)]


def _ahead(read: Callable[[Sequence[str]], list[Content]], windows: Sequence[Sequence[str]]) -> Iterator[list[Content]]:
    """Windows tokenised one ahead: while the model computes the last one, the next is read."""
    if len(windows) < 2:
        yield from map(read, windows)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="echo-embeddings-tokenizer") as reader:
        coming = reader.submit(read, windows[0])
        for window in windows[1:]:
            ready, coming = coming.result(), reader.submit(read, window)
            yield ready
        yield coming.result()
