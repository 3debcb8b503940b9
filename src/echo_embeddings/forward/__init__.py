"""One pass of a causal model over one batch: make the copy, run the layers, pool the last copy.

Knows token ids and hidden states, but no text. Everything in ``speed/`` could be removed without changing a vector.
"""
