"""An index on disk that can be asked in plain words.

Knows the encoder and FAISS; no command line.
"""
