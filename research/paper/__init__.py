"""The experiments of the echo paper (arXiv 2402.15449), and every rival beside it, on any model: ``make evaluate``."""
