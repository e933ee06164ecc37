# What one can do here. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
APT := debootstrap iproute2 nftables procps gcc libc6-dev ca-certificates util-linux python3-venv

.DEFAULT_GOAL := help
.PHONY: help setup prepare demo lab-faults test test-unit test-lab check format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## install what the tests and the lab need: Debian packages, a virtual environment

$(STAMP): requirements-dev.lock pyproject.toml
	@tools/repo/install-packages $(APT)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

prepare: setup ## make the lab's root file systems and service images, if they are not there yet
	$(BIN)/hoplab prepare

demo: prepare ## two edge hosts, a redis under writes, one move; writes build/demo.json
	$(BIN)/python tools/demo/demo.py

test: prepare ## all tests, those on real hosts included
	$(BIN)/python -m pytest

test-unit: setup ## the tests that need no lab
	$(BIN)/python -m pytest -m "not lab"

test-lab: prepare ## the tests on real hosts
	$(BIN)/python -m pytest -m lab

lab-faults: prepare ## the failure matrix on real hosts (REPEAT=5 CELLS= SEED=0 JOBS=2); writes build/faults.json
	REPEAT=$(REPEAT) CELLS=$(CELLS) SEED=$(SEED) JOBS=$(JOBS) $(BIN)/python -m faults

check: setup ## style, types, import directions, duplicated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pylint --disable=all --enable=duplicate-code streamhop protocol/streamhop_protocol tools/hoplab tools/faults

format: setup ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what was built; lab caches stay
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
