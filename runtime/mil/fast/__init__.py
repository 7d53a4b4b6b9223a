"""The fast executor: what is worth it for everyday use and a verifying executor must not do, because it changes rounding or trusts a mask.

Here: weights multiplied as they are stored (packed.py), and rewrites of a plan (rewrite.py for what they share, one module per rewrite). Not here:
what a program means: the same steps, instructions and states as the verifying modes (code.py, execute.py).
"""
