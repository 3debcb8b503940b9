"""Judge embeddings: data, scores, presets side by side, and what the second copy looks at. Knows no command line.

The module ``mteb`` judges with the benchmark library of that name; it is imported by its own name only.
"""

from typing import TYPE_CHECKING, Any

from .comparison import Score, compare
from .datasets import Dataset, open_dataset

if TYPE_CHECKING:
    from .explanation import Explanation, explain

__all__ = ["Dataset", "Explanation", "Score", "compare", "explain", "open_dataset"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for: the command line shows its help without."""
    if name in ("Explanation", "explain"):
        from . import explanation

        return getattr(explanation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
