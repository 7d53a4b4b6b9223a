"""Environments as they are installed: the proof that one is exactly what its lock says, by the hash of every file.

Here: what uv had installed (distributions.py, note.py), the proof (check.py and what it asks), the glance before a stage starts (glance.py).
Not here: making an environment (ci/sync, ci/install), what a running interpreter may do (interlock/environments.py), how all this is told
(pipeline/verbs/env).
Nothing here imports what it looks at: a broken or hostile package is read as bytes. docs/environments.md says what is proven and what is trusted.
"""
