"""One pass of a causal model over one batch: the copy is made, layers run, the last copy is pooled.

Knows token ids and hidden states, no text. What is in ``speed/`` may be removed, and no vector changes.
"""
