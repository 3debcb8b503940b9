"""Where weights come from (built-in, hub, folder, GGUF) and what we know of architectures and devices.

Knows no text and no batch.
"""
