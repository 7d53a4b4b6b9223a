"""Measures deployed students. Its suites, runners and gates live here; building and running models do not."""
