"""What becomes of a vector after pooling: fitted maps, the words beside it, unit length.

Knows arrays and strings only: no model, no torch.
"""
