"""One file an experiment. Each has ``NAME``, ``NEEDS_DATA`` and ``run(study) -> Section``; here is their order."""

ORDER: list[str] = ["structures", "prompts", "attention", "repetitions"]
