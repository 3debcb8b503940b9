"""One device: texts through the model in this process, window by window. A crew does the same with several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .inputs import WINDOW
from .template import Template
from .truncation import Cuts
from .vectors import Vectors

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["pool"]


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
    for start in range(0, len(texts), WINDOW):
        window = texts[start : start + WINDOW]
        contents = runtime.contents(window, template, instruction)
        cuts.add(window, contents, runtime.limit(layout))
        vectors[start : start + WINDOW] = runtime.pool(window, contents, layout, advance)
    return vectors
