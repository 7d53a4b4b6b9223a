"""Teaching: answers of a teacher, and its log-probabilities, put beside the rows of a dataset.

Here: teachers (a checkpoint of ours, an endpoint), what is kept of an answer, files of log-probabilities, the budget. Not here: losses that use them
(pipeline/training/losses), the stage that writes the dataset (pipeline/stages/teach.py).
"""
