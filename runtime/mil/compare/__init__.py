"""Where a package first differs: from another package, or from the student that it was made of.

    report = compare_packages(open_package(one), open_package(other), options)
    report = compare_student(open_package(one), student, options)

Both run the same chain of calls on both sides (chain.py), keep a small sketch of every value (sketch.py), and name the first operation whose
result no rounding explains (tolerance in values.py), with what is different about the operation itself where that can be seen.
Here: finding and naming. Not here: gates (pipeline/gates), tables (pipeline/verbs).
"""

from __future__ import annotations

from runtime.mil.compare.packages import compare_packages
from runtime.mil.compare.report import Options, Report
from runtime.mil.compare.student import compare_student

__all__ = ["Options", "Report", "compare_packages", "compare_student"]
