# The two commands of the README are `make deploy-full` and `make test`; everything else is a part of them.
RECIPE ?= smollm2-halt
STUDENT ?= models/student
# More of the recipe's values, as in: make deploy-full SET="--set source.checkpoint=hf:my/model --set compress.method=int8"
SET ?=
BUILD = .venv/bin/interlock build $(RECIPE) --set output=$(STUDENT) $(SET)

.PHONY: help environments deploy-full deploy-runtime-config test test-reliability lock clean
help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 32

environments: ## both locked environments, from nothing
	@ci/sync train export

deploy-full: environments ## a real model, from its registry package to a verified deployed directory
	@$(BUILD)
	@.venv/bin/interlock verify $(STUDENT)/deployed

deploy-runtime-config: environments ## the same without the Core ML package
	@$(BUILD) --set convert.enabled=false --set compress.method=none

test: environments ## every check: lint, types, both environments' tests, whole chains
	@ci/test

test-reliability: environments ## every crash, fault and corruption of the catalogue, and the score; `make test` has a sample of it
	@ci/test-reliability

lock: ## resolve the locks anew (UPGRADE=--upgrade moves every pin)
	@ci/lock $(UPGRADE)

clean: ## remove what was made: environments, models, records
	rm -rf .uv .venv .tox envs/*/.venv models .interlock
