"""Tools while a model is evaluated: their results are replayed, never fetched."""
