"""Builds: stages, their driver, launchers, sources of foreign checkpoints, reports; `build` and `plan` for scripts and notebooks."""

# `build` and `plan` are declared in __init__.pyi and come from pipeline/api.py when they are first asked for: importing this package stays light, and
# the driver does not become part of every stage's source, which has this module in its import closure.


def __getattr__(name: str) -> object:
    if name in ("build", "plan"):
        import importlib

        return getattr(importlib.import_module("pipeline.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
