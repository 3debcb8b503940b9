"""Turn many texts into vectors, on one device or several: batches, worker processes, awaited texts.

Knows no files and no frameworks.
"""
