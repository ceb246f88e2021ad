# Everything a newcomer needs: `make demo`, then `make test`. Both set up what they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Exact versions for every package, direct or not; CI installs the same.
LOCK := constraints.txt
DEMO := examples/digits
# tflite-runtime is built against NumPy 1 and ends with Python 3.11, so it has an environment of its own, where edgepack looks for it.
OLD := $(VENV)/tflite-runtime
OLD_LOCK := constraints-tflite-runtime.txt
OLD_PYTHONS := $(BIN)/python python3.11 python3.10 python3.9
HAS_OLD_PYTHON := -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))'

# Tests run in two processes, each file in one of them; a crash in a library is then a failed test with a name.
JOBS ?= 2
SPREAD = --numprocesses $(JOBS) --dist loadfile

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that wait sleep: two spinning teams on a busy two-core machine are 30 times slower.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup tflite-runtime model-signing demo test test-device test-all fuzz check lint types format docs bench clean arm-device arm-device-image arm-device-stop

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
	@if ! test -e $(OLD)/.installed; then \
	    if $(BIN)/python $(HAS_OLD_PYTHON); then \
	        $(MAKE) --no-print-directory tflite-runtime || echo 'tflite-runtime could not be installed (see above): its tests are skipped, target arm64-legacy is not built.'; \
	    else \
	        echo "tflite-runtime is left out, it has no wheels for this Python: its tests are skipped. With Python 3.9 to 3.11 at hand 'make tflite-runtime' adds it."; \
	    fi; \
	fi
	@$(MAKE) --no-print-directory model-signing || echo 'model_signing could not be installed (see above): the tests that verify signatures with it are skipped.'

# pip of the one environment installs into the other.
$(OLD)/.installed: $(OLD_LOCK) | $(VENV)/.installed
	@python=$$(for each in $(OLD_PYTHONS); do $$each $(HAS_OLD_PYTHON) 2>/dev/null && echo $$each && break; done); \
	test -n "$$python" || { echo 'tflite-runtime needs Python 3.9, 3.10 or 3.11; none is on the PATH'; exit 1; }; \
	$$python -m venv --without-pip --clear $(OLD)
	$(BIN)/python -m pip --python $(OLD)/bin/python install --quiet --constraint $(OLD_LOCK) tflite-runtime numpy
	@touch $@

tflite-runtime: $(OLD)/.installed  ## Create the old runtime's own environment (tests, target arm64-legacy)

# It needs other versions of its libraries than edgepack does, so it has an environment of its own, too.
$(VENV)/model-signing/.installed: constraints-model-signing.txt | $(VENV)/.installed
	$(PYTHON) -m venv --without-pip --clear $(VENV)/model-signing
	$(BIN)/python -m pip --python $(VENV)/model-signing/bin/python install --quiet --constraint constraints-model-signing.txt model-signing pyOpenSSL
	@touch $@

model-signing: $(VENV)/model-signing/.installed  ## Install OpenSSF's model_signing, which tests check our signatures with

demo: setup  ## Train a digit classifier, build it for LiteRT, OpenVINO and ONNX Runtime, measure float and int8 here
	$(BIN)/python $(DEMO)/train.py
	$(BIN)/edgepack build --recipe $(DEMO) --target arm64 --target intel --target x86_64
	$(BIN)/edgepack bench $(DEMO)/dist/digits-1.0.0-arm64.edgepack --against-float

test: setup  ## Run the tests (under 12 minutes on two cores)
	$(BIN)/python -m pytest $(SPREAD)

# One process: two emulated machines on two cores answer too late.
test-device: setup  ## Run the tests on the virtual arm64 device (QEMU; the image is built where root is at hand)
	$(BIN)/python -m pytest -m "device and not slow"

test-all: setup  ## Run the slow tests, too; set EDGEPACK_TEST_DATA to include those on real models
	$(BIN)/python -m pytest $(SPREAD) -m "slow or not slow"

# SECONDS for each of the targets; TARGETS names some of them.
SECONDS ?= 75
fuzz: setup  ## Fuzz what reads bundles, signatures and coded data: 14 minutes; SECONDS=10 TARGETS="archive" is shorter
	$(BIN)/python tests/fuzz/fuzzing.py --seconds $(SECONDS) $(TARGETS)

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

# ICOUNT=1: its clock counts instructions. SSH_PORT, ADB_PORT, CPU, SMP, MEMORY as tests/arm_device/README.md says.
arm-device: setup  ## Start an arm64 device without hardware (QEMU), to be reached over ssh and adb
	@$(BIN)/python tests/arm_device/machine.py start

arm-device-image: setup  ## Build that device's image; needs root, once
	@$(BIN)/python tests/arm_device/machine.py build

arm-device-stop: setup  ## Stop it
	@$(BIN)/python tests/arm_device/machine.py stop

clean:  ## Remove what builds made, not .venv
	rm -rf examples/*/.edgepack examples/*/dist examples/*/weights.safetensors
