"""Throughput beside other ways to embed the same texts. Run ``python -m benchmarks.throughput`` in the repository."""
