"""The files that people have: tables of texts, and prose and code split into passages; and jobs that can be resumed.

Knows no model, no framework and no torch: an encoder is whatever has the methods that ``embed_table`` calls.
"""
