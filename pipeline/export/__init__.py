"""From an eager student to TorchScript files, and the proof that the saved files compute what the student computes.

Here: forms.py (what is traced), torchscript.py (the files and their signatures), shapes.py (every enumerated length, run through the saved
files), prompt.txt (what they are run on). Not here: the stage's parameters, contracts and publication (pipeline/stages/export.py).
"""
