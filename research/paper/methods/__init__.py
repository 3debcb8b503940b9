"""The training-free methods side by side: presets of the library, and one file for each rival that needs code."""
