"""The foundation: what every other room stands on, and what a script imports. Light and torch-free.

Here: errors, the voice, contracts, environments, the one module that writes artifacts. Not here: anything that knows a tensor.
"""

__version__ = "0.1.0"
