"""One file an experiment. Each has ``NAME``, ``NEEDS_DATA`` and ``run(study) -> Section``; here is their order."""

ORDER: list[str] = [
    "methods",
    "structures",
    "prompts",
    "attention",
    "repetitions",
    "pooling",
    "halves",
    "budgets",
    "layers",
    "lengths",
    "languages",
    "sizes",
    "sample_efficiency",
]
