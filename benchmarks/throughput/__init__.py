"""The throughput benchmark: ``python -m scripts.benchmark`` from the root of the repository."""
