.PHONY: help
help:
	@echo help
