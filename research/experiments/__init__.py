"""Finished experiments: each module says at its top when it was run, what was asked and what the answer was."""
