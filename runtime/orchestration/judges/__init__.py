"""Judges: what says how good an answer is, 0 to 1. Rules, a JSON schema, a command, a model here or behind an address; each within a time.

Here: one module per kind. Not here: what is done with a score (orchestration/refine.py).
"""
