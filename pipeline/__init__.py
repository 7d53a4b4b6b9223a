"""Builds: stages, their driver, launchers, sources of foreign checkpoints, reports."""
