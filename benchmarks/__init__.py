"""Prints every figure that the docs quote. Nothing imports from here."""
