"""Datasets: seeded generators of rows to train on or to evaluate with, rows from elsewhere, and what is looked at before a training run.

Here: rows and how they are made, read and judged. Not here: the contract's fields (interlock/contracts/dataset.py), what a teacher adds
(pipeline/training/teaching), the stages that write them (pipeline/stages).
"""
