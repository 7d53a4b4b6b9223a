"""A stage and a gate for interlock, as an example of both."""
