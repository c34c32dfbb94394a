# make run: everything on this machine.  make test: all tests.  No root, no Docker needed.

VENV := .venv
BIN := $(VENV)/bin
SUPPLY := build/supply
PIP := PIP_USER=0 $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
# A user's own paths would mix other packages into the locked ones.
unexport PYTHONHOME PYTHONPATH

# The first of these that is new enough; `make run PYTHON=python3.12` says otherwise.
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; \
	done)

# A venv holds absolute paths: in a checkout that was moved or copied it is made anew.
ifneq ($(shell cat $(VENV)/.made-at 2>/dev/null),$(CURDIR))
$(shell rm -f $(VENV)/.made-at $(VENV)/.run-installed $(VENV)/.test-installed)
endif

.PHONY: run test test-all test-slow test-again figures check bench prove rehearse widget node-tools lock \
	sbom audit clean
.DELETE_ON_ERROR:

run: $(VENV)/.run-installed
	@exec $(BIN)/dianzan up

test: $(VENV)/.test-installed
	@exec $(BIN)/python -m pytest -m "not slow and not figures" -n 3 --dist loadfile \
		--no-loadscope-reorder

# ... and what takes longer.
test-all: test test-slow

test-slow: $(VENV)/.test-installed
	@exec $(BIN)/python -m pytest -m "slow and not figures"

# What failed last, once more, with nothing beside it; where nothing did, this fails.
test-again: $(VENV)/.test-installed
	@exec $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

# What pages and widget cost a slow phone, held against their targets: times say little beside other
# work, so CI does not ask for them.
figures: $(VENV)/.test-installed node-tools
	@exec $(BIN)/python -m pytest -m figures -s

# The gates of the house; CI runs them all.
check: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test-installed
	@exec $(BIN)/python -m loadtest.bench

# A long walk over faults, with a report: about half an hour. FAULTS and SEED say how long, and which.
FAULTS ?= 1000
SEED ?= 1
prove: $(VENV)/.test-installed
	@exec $(BIN)/python -m tests.prove.walk --faults $(FAULTS) --seed $(SEED)

# The rules against crowds and cheats, on seeds that nobody tuned on: about 5 minutes on two cores.
rehearse: $(VENV)/.test-installed
	@mkdir -p build
	@exec $(BIN)/dianzan rehearse --seeds 101,102 --votes 800000 --html build/rehearsal.html

# The newest build of the widget, anew from its source. Node is needed for this, and for the tests
# that check the build and use browsers' tools; nothing else needs it, and they skip without it.
widget: voting/widget/node_modules/.installed
	@cd voting/widget && npm run --silent check && npm run --silent build

node-tools: voting/widget/node_modules/.installed tests/browser/node_modules/.installed

%/node_modules/.installed: %/package.json %/package-lock.json
	@echo "Installing what $*/package-lock.json locks ..." >&2
	@cd $* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# The lock files, anew from pyproject.toml; uv is needed for this alone.
LOCK := uv pip compile --universal --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --python-version 3.11 --quiet
lock:
	$(LOCK) pyproject.toml --extra build -o requirements.txt
	$(LOCK) pyproject.toml --extra build --extra dev -c requirements.txt -o requirements-dev.txt
	$(LOCK) --group supply -o requirements-supply.txt

# What the service is made of, as CycloneDX: every package of requirements.txt with its hashes.
sbom: $(SUPPLY)/.installed
	@mkdir -p build
	@$(SUPPLY)/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file build/sbom.cdx.json requirements.txt
	@echo build/sbom.cdx.json

# Whether a known weakness is in what is locked: asks the advisory database over the network.
audit: $(SUPPLY)/.installed
	@$(SUPPLY)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt

$(SUPPLY)/.installed: requirements-supply.txt $(VENV)/.made-at
	@echo "Installing what requirements-supply.txt locks ..." >&2
	@$(BIN)/python -m venv --clear $(SUPPLY)
	@PIP_USER=0 $(SUPPLY)/bin/python -m pip --disable-pip-version-check --no-input -qq install \
		--require-hashes -r requirements-supply.txt
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info

# Each marker is made last: what was interrupted before it is done again, from its start.
$(VENV)/.made-at:
	@test -n "$(PYTHON)" || { \
		echo "Python 3.11 or newer is needed and was not found: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not Python 3.11 or newer: say another, as in PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) comes without its module venv." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) ..." >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@echo "$(CURDIR)" > $@

$(VENV)/.run-installed: requirements.txt pyproject.toml $(VENV)/.made-at
	@echo "Installing what requirements.txt locks (a minute or less) ..." >&2
	@$(PIP) install --require-hashes -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test-installed: requirements-dev.txt $(VENV)/.run-installed
	@echo "Installing what requirements-dev.txt locks (a minute or less) ..." >&2
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@
