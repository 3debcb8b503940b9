"""Measurements that are repeated at each change: throughput beside other libraries, cost, overhead, quality.

Each module is a command; README.md says which question it answers. They use the public API of the library and, where
they count work, its engine. Finished experiments are in ``research/``.
"""
