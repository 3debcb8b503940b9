"""Faster ways to run the same layers. Each may be switched off, and no vector changes.

Knows modules and tensors of torch and transformers, including their private names; no text, no batch of ours.
"""
