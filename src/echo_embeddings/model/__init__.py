"""Load models (built-in, hub, folder, GGUF), and answer questions about architectures and devices.

Knows no text and no batch.
"""
