"""From many texts to vectors, on one device or several: batches, worker processes, awaited texts.

Knows no roles, no files and no frameworks.
"""
