"""How a stage's process is started inside its environment. Each launcher is one module with a `start`."""
