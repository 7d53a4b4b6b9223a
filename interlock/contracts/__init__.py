"""Contracts: the JSON documents that describe artifact directories, one module per kind, and the one way to read and write them."""
