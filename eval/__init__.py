"""Measures models: what is asked, how an answer is judged, what a number of answers shows.

Here: runners, scoring, statistics, suites. Not here: the stage that publishes an evaluation (pipeline/stages/eval.py), running a model (runtime).
"""
