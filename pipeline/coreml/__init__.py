"""From TorchScript files to one Core ML package, and the facts of a saved one.

Here: functions.py (what is converted, and converting it), lean.py (the same bytes for less), merge.py (one package of several functions),
normal.py (the same bytes on every machine), facts.py (a saved package read back), messages.py (what the converter said). Not here: the stage's
parameters and contract (pipeline/stages/convert.py), running packages (runtime/mil), compression.
"""
