"""All that defines a vector besides the weights: ``EchoConfig``, its files, and the presets that ship.

Knows no model and no torch.
"""
