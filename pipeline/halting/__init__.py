"""A halt head for a frozen chat model: one linear map that says, where a sentence or line ends, whether the answer is already complete.

Here: dialogues whose answers a program can judge (development*.toml, fresh.toml, dialogues.py, labels.py), the model's own answers and hidden states
(decode.py, answers.py), the fit with its calibration and threshold (traces.py, fit.py, threshold.py), figures with intervals (figures.py), the file
(head.py). Not here: the decode loop that reads the head (runtime/engine), heads that are trained with their model (pipeline/training).
"""
