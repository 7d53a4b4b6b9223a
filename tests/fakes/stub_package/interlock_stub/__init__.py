"""Stages without tensors, for tests of the driver: real processes, contracts and files of a few bytes, in a tenth of a second each."""
