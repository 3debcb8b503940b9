"""The steps that make the preset ``default``, in their order; README.md describes them, run.sh runs them."""
