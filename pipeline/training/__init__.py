"""Training a student: data in batches, what a batch costs, the loop around it, and what it is watched by. Used by pipeline/stages/train.py."""
