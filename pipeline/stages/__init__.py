"""One module per stage: its parameters and options, and its work from top to bottom."""
