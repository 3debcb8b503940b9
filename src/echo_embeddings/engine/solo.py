"""One device: texts through the model in this process, window by window. A crew does the same with several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from echo_embeddings.text.inputs import WINDOW
from echo_embeddings.text.truncation import Cuts
from echo_embeddings.types import Role, Vectors

if TYPE_CHECKING:
    from echo_embeddings.text.tokenizer import Content

    from .runtime import Runtime

__all__ = ["pool"]


def pool(
    runtime: Runtime,
    texts: Sequence[str],
    role: Role,
    instruction: str | None,
    cuts: Cuts,
    advance: Callable[[int], object],
) -> Vectors:
    """Pooled vectors of texts, transforms applied, not yet of unit length: float32 ``[n, dim]``.

    Args:
        runtime: the loaded model.
        texts: in any order; the vectors come in theirs.
        role: what the texts are; it says which template they are laid into.
        instruction: for it.
        cuts: told what was cut, before the model runs on that window.
        advance: told how many texts each finished batch held.
    """
    template = runtime.config.template_for(role)
    layout = runtime.layout(template, instruction)
    vectors = np.empty((len(texts), runtime.dimension), dtype=np.float32)
    windows = [texts[start : start + WINDOW] for start in range(0, len(texts), WINDOW)]
    read = partial(runtime.contents, template=template, instruction=instruction)
    for i, (window, contents) in enumerate(zip(windows, _ahead(read, windows), strict=True)):
        cuts.add(window, contents, runtime.limit(layout))
        vectors[i * WINDOW : (i + 1) * WINDOW] = runtime.pool(window, contents, layout, role, advance)
    return vectors


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
