"""Throughput beside other ways to embed the same texts: ``python -m benchmarks.throughput`` from the repository root."""
