# Everything a newcomer needs: `make demo`, then `make test`. Both set up what they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Exact versions for every package, direct or not; CI installs the same.
LOCK := constraints.txt
DEMO := examples/digits

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that wait sleep: two spinning teams on a busy two-core machine are 30 times slower.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check lint types format docs bench clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

# The stamp is written last, so an interrupted installation is taken up again.
$(VENV)/.installed: pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "edgepack needs Python 3.11 to 3.13, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(LOCK) pip setuptools hatchling editables
	$(BIN)/python -m pip install --quiet --constraint $(LOCK) --no-build-isolation --editable '.[dev]'
	@touch $@

setup: $(VENV)/.installed  ## Create .venv with the locked versions

demo: setup  ## Train a digit classifier, build it for arm64, measure float and int8 here
	$(BIN)/python $(DEMO)/train.py
	$(BIN)/edgepack build --recipe $(DEMO) --target arm64
	$(BIN)/edgepack bench $(DEMO)/dist/digits-1.0.0-arm64.edgepack --against-float

test: setup  ## Run the tests (under 12 minutes on two cores)
	$(BIN)/python -m pytest

test-all: setup  ## Run the slow tests, too; set EDGEPACK_TEST_DATA to include those on real models
	$(BIN)/python -m pytest -m "slow or not slow"

check: lint types test  ## What CI runs

lint: setup  ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## Types
	$(BIN)/mypy

format: setup  ## Rewrite the code in the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## Generate the reference pages and schemas from the code
	$(BIN)/python -m edgepack.cli.reference

bench: setup  ## Print every figure of the README; see benchmarks/README.md
	$(BIN)/python -m benchmarks

clean:  ## Remove what builds made, not .venv
	rm -rf examples/*/.edgepack examples/*/dist examples/*/weights.safetensors
