# Headwater's verbs; `make help` lists them. Each takes ARGS="...", which is
# handed to the program behind it: make test ARGS="-k freshness".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3.11
ARGS ?=
ROUNDS ?= 20
SEED ?=
# The first demo's time includes the set-up.
BEGAN := $(shell date +%s)

BIN := .venv/bin
# Stamps: what they stand for is not done again until its inputs change.
ENVIRONMENT := .venv/.complete
JARS := .headwater/kafka/lib/pom.xml

.PHONY: help setup demo test lint bench evaluate chaos

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(ENVIRONMENT) $(JARS) ## the environment in .venv and Kafka's jars; every other verb does it first

demo: setup ## the whole of it on real data: train, replay, score, and the table of figures
	$(BIN)/headwater demo --began $(BEGAN) $(ARGS)

test: lint ## lint, types, layers, all tests against a real Kafka, the CUDA kernels simulated
	$(BIN)/python -m pytest $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m pytest tests/parity --twins simulator)

lint: setup ## ruff, mypy --strict and the import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## every benchmark, peers included (benchmarks/README.md)
	$(BIN)/python -m benchmarks $(ARGS)

evaluate: setup ## both models on real data beside baselines; trains those that are missing
	$(BIN)/headwater evaluate $(ARGS)

chaos: setup ## faults at random, ROUNDS=20 of them, by SEED=n; then state = truth, or which seed it was not
	PYTHONPATH=tests/chaos $(BIN)/python -m chaos_rounds --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

# The lock pins uv too: pip reads uv's entry from it, and uv installs the rest.
$(ENVIRONMENT): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 is needed, and '$(PYTHON)' is not one. Install it (Debian 12:" \
	       "apt-get install python3.11-venv) or name it: make PYTHON=/path/to/python3.11 setup" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement \
	  <(awk '/^[^ #]/ { wanted = /^uv==/ } wanted' requirements.lock)
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

$(JARS): deploy/kafka/pom.xml | $(ENVIRONMENT)
	$(BIN)/python deploy/kafka/install.py $(@D)
	touch $@
