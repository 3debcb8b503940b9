"""Choose the config of any model from unlabelled texts. Knows no command line and no framework."""

from .tune import Tried, Tuned, tune

__all__ = ["Tried", "Tuned", "tune"]
