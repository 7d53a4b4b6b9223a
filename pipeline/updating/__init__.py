"""Moving a lock: proposed in a copy of the project, tried there, and written only when nothing is lost.

Here: the copy and its new locks (proposal.py), what the environments of one tree measure (trial.py), the verdict (verdict.py), the order of it all
(update.py). Not here: resolving (ci/lock), the probe (pipeline/compat), the verb (pipeline/verbs/env/update.py).
"""
