"""Contracts and run reports for people. No computing here: everything shown stands in a contract or a report."""
