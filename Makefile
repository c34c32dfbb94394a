# make run: everything on this machine.  make test: all tests.  No root, no Docker needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: run test test-all check bench lock clean
.DELETE_ON_ERROR:

run: $(VENV)/.run-installed
	@$(BIN)/dianzan up

test: $(VENV)/.test-installed
	@$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.test-installed
	@$(BIN)/python -m pytest

# The gates of the house; CI runs them all.
check: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.run-installed
	@$(BIN)/python -m loadtest.bench

# The lock files, anew from pyproject.toml; uv is needed for this alone.
LOCK := uv pip compile --universal --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --python-version 3.11 --quiet pyproject.toml
lock:
	$(LOCK) --extra build -o requirements.txt
	$(LOCK) --extra build --extra dev -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; say which: make run PYTHON=python3.12"; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run-installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing what requirements.txt locks ..."
	@$(PIP) install --require-hashes -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test-installed: requirements-dev.txt $(VENV)/.run-installed
	@echo "Installing what requirements-dev.txt locks ..."
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@
