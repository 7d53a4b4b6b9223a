"""Losses of training: small functions from tensors to a sum over supervised tokens and their count.

Here: the formulas. Not here: which tokens are supervised (the curriculum), the mean over an optimizer step (the loop), temperatures and weights of
a recipe. A loss never divides: the mean of micro batches' means is not the mean over tokens (transformers PR 34191), so only who has seen all
micro batches and ranks may (`LossParts.objective`).
"""
