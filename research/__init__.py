"""How the shipped weights were made, finished experiments, and the log of all measurements. No part of the library."""
