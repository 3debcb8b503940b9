"""Faster ways to run the same layers. Each may be switched off without changing a vector.

Knows the modules and tensors of torch and transformers, including private names, but no text.
"""
