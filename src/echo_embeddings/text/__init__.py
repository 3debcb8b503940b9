"""What the model reads: templates, token ids, where each copy of a text stands, and what was truncated.

Knows no tensors, no model and no files.
"""
