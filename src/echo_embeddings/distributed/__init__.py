"""Embed with other people's engines for data that one machine should not hold: Ray Data (``ray``) and Daft (``daft``).

Scheduling, queues and transport are theirs. Neither is imported before it is used.
"""
