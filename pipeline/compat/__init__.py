"""Which versions of torch, Python, coremltools and numpy convert correctly: measured, kept as data, measured again by one command.

Here: a small decoder in many conversions (cases.py), each run by interlock's own runner and compared with torch in a process of its own
(worker.py, probe.py); the table of all measurements (table.py, table.json); making the table anew in throw-away environments (sweep.py).
Not here: the gates of a real package (pipeline/gates), which version is allowed (envs/).
"""
