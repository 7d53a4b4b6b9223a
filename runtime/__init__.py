"""Runs models: the student, the backends that step it, the token loop. Knows nothing of building."""
