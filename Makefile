# What one can do here. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 1
N ?= 10000
STAMP := $(VENV)/.complete
APT := debootstrap iproute2 nftables procps gcc libc6-dev ca-certificates util-linux python3-venv tshark

.DEFAULT_GOAL := help
.PHONY: help setup prepare demo test test-unit test-lab sim fuzz fuzz-wire lab-endurance lab-faults bench check spec format clean

MINUTES ?= 10

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

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

fuzz: setup ## all decoders of a peer's bytes, MINUTES=10 in all; what is found stays in build/fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz.run --minutes $(MINUTES)

fuzz-wire: setup ## damaged recordings, MUTANTS=100000 of them, through all that hopwire shows
	PYTHONPATH=tests/hopwire $(BIN)/python -m mutants $(or $(MUTANTS),100000) $(SEED)

lab-endurance: prepare ## one container, MOVES=500 moves back and forth: does anything grow? writes build/endurance.json
	MOVES=$(or $(MOVES),500) $(BIN)/python -m endurance

sim: setup ## simulate moves under faults: N seeds from SEED on; TRACE=1 prints all that happens
	$(BIN)/python -W ignore -m hopsim.cli --seed $(SEED) --number $(N) $(if $(TRACE),--trace)

lab-faults: prepare ## the failure matrix on real hosts (REPEAT=5 CELLS= SEED=0 JOBS=2); writes build/faults.json
	REPEAT=$(REPEAT) CELLS=$(CELLS) SEED=$(SEED) JOBS=$(JOBS) $(BIN)/python -m faults

bench: prepare ## measure moves beside what one could use instead (QUICK=1: ten minutes; SCENARIOS= PEERS=all REPEAT=3); build/bench.*
	$(BIN)/hopbench run $(SCENARIOS) --peers $(or $(PEERS),all) --repeat $(or $(REPEAT),$(if $(QUICK),1,3)) $(if $(QUICK),--quick)

check: setup ## style, types, import directions, duplicated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pylint --disable=all --enable=duplicate-code streamhop protocol/streamhop_protocol tools/hoplab tools/hopsim tools/faults tools/hopbench tools/hopwire

spec: setup ## write the golden frames and the state diagrams of protocol/ anew
	$(BIN)/python protocol/vectors/make_vectors.py
	$(BIN)/python tools/repo/draw_states.py

format: setup ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what was built; lab caches stay
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
