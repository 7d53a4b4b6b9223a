"""What is wrong with this machine, this clone and one artifact: checks that each look at one thing, and say what to do.

Here: the checks (one module per thing looked at), their list (checks.py), running them side by side (running.py). Not here: how findings are shown
(pipeline/reports/doctor.py), proofs and rules of other rooms: these are called, never written again.
Everything here runs in any Python that can start interlock, without a package: what a check cannot import is a finding.
"""
