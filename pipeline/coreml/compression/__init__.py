"""Smaller weights in a finished package: which form each weight takes, and writing it.

Here: forms of a weight (stored.py and one module per kind), choosing among them (sensitivity.py, assignment.py), rewriting a package (rewrite.py).
Not here: converting (pipeline/coreml), judging what came out (pipeline/gates).
"""
