"""Documents that are longer than a model reads at once: what is best when, on sets of long documents."""
