# Leyden: every command a contributor needs. `make help` lists them.
# Wants Python 3.11 or newer and make. `make check` also wants Node.js, because pyright runs on it.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install -qq
NATIVE := $(wildcard native/*.* native/src/* native/leyden_native/*.py*)
HEADERS = $(BIN)/python -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))'
NO_PIP = { echo "pip could not install what is missing (its reason is above); a Python package index has to be reachable"; exit 1; }
PYTEST_ARGS ?= -n 2

.DEFAULT_GOAL := help
.PHONY: help setup native demo check test bench soak compat docs openapi lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev $(VENV)/.native ## everything for work on Leyden, in .venv
native: $(VENV)/.native ## the optional decoder in C, built into .venv (needs a C compiler and Python's headers)
demo: $(VENV)/.runtime ## a small world of agents, offline: runs recorded, findings ranked
	@$(BIN)/python -m leyden.demo

check: setup ## style, types, layers
	@command -v node >/dev/null || { echo "make check needs Node.js 18 or newer on the PATH: pyright runs on it"; exit 1; }
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

test: setup ## all tests, on SQLite and PostgreSQL (PYTEST_ARGS="-k name" for some of them)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: setup ## measure this machine; results go to bench/results/
	$(BIN)/python -m bench

soak: setup ## half an hour at half of the sustainable load, with packing, pruning and queries
	$(BIN)/python -m bench.soak

compat: setup ## Agent Lightning's own client against a Leyden server (installs 800 MB)
	$(BIN)/python tests/compat/prepare.py
	$(BIN)/python -m pytest tests/compat

docs: setup ## write docs/reference/ again from the code
	$(BIN)/python scripts/reference.py

openapi: setup ## write openapi.json again from the routes
	$(BIN)/python scripts/openapi.py

lock: $(VENV)/bin/python ## resolve the dependencies again and write both lock files
	$(PIP) uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade \
	  --extra postgres --extra gateway pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade \
	  --group dev --extra all -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove .venv and what the tools left behind
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build native/build native/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Leyden needs Python 3.11 or newer, and none is on the PATH (or name one: make PYTHON=...)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: python3-venv)"; exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing Leyden into $(VENV) ..."
	@$(PIP) --require-hashes -r requirements.lock || $(NO_PIP)
	@$(PIP) --no-deps -e . || $(NO_PIP)
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Installing the development tools into $(VENV) ..."
	@$(PIP) --require-hashes -r requirements-dev.lock || $(NO_PIP)
	@touch $@

# Without a C compiler everything is read in Python, and tests/conftest.py leaves out the tests that compare the two.
$(VENV)/.native: $(NATIVE) | $(VENV)/.dev
	@if command -v $(CC) >/dev/null && $(HEADERS); then \
	  echo "Building the optional decoder in C ..."; $(PIP) --force-reinstall --no-deps ./native || $(NO_PIP); \
	else echo "No C compiler with Python's headers here: the optional decoder and its tests are left out"; fi
	@touch $@
