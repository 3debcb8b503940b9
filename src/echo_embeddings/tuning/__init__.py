"""Choose the config of any model from texts, without labels if need be. Knows no command line and no framework."""

from .tune import Gain, Tried, Tuned, tune

__all__ = ["Gain", "Tried", "Tuned", "tune"]
