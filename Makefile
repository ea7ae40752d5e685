# bnfold. Every target builds what it needs by itself: Python >= 3.11, pip and make are enough.
# Quick when nothing changed: environments are rebuilt only when their constraints file changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
# The first interpreter that is new enough; override with `make PYTHON=/path/to/python`.
PYTHON ?= $(shell scripts/find-python.sh)
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
TOOLS := $(VENV)/.test-tools
PYTEST_ARGS ?=
# Processes that share the tests; a group of tests (tests/conftest.py) stays in one of them.
WORKERS ?= 2
# One thread per process for BLAS: threads that wait for each other in busy loops cost more than they bring.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadscope
TIERS := tests/unit tests/integration tests/process tests/e2e

export TF_CPP_MIN_LOG_LEVEL := 3
export ORT_DISABLE_TELEMETRY := 1

.PHONY: help setup setup-dev demo serve check unit test real peers-tests sweeps coverage test-tools lint types format openapi bench fuzz audit killsweep faultsweep powerloss image wheel sbom \
        lock docs docs-site docs-pictures clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 16

setup: $(RUNTIME) ## build .venv with everything the product needs

setup-dev: $(DEV) ## the same, with what tests, lint and benchmarks need

demo: $(RUNTIME) ## start the service, convert two real models over HTTP, show that the results agree
	@$(PY) examples/demo.py

serve: $(RUNTIME) ## the service on http://127.0.0.1:8750, until interrupted
	$(BIN)/bnfold serve

check: lint types unit ## what to run while you write: lint, types and unit tests

unit: $(DEV) ## unit tests: no TensorFlow, no processes, seconds
	$(PYTEST) tests/unit $(PYTEST_ARGS)

test: $(DEV) test-tools ## the test suite, all but strangers' files and long sweeps
	$(PYTEST) $(TIERS) $(PYTEST_ARGS)

real: $(DEV) ## trained models inside public packages, downloaded, against the committed table
	$(PY) -m tests.real.files $(REAL_ARGS)

peers-tests: $(DEV) ## the 2,033 models of ONNX's own tests, against the committed list
	$(PY) -m tests.real.peers $(PEERS_ARGS)

sweeps: $(DEV) test-tools ## the long form of every sweep
	$(PYTEST) $(TIERS) -m slow $(PYTEST_ARGS)

coverage: $(DEV) ## lines that the unit tests and the tests of frameworks and stores run, with a floor
	$(PYTEST) tests/unit tests/integration --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

lint: $(DEV) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## mypy --strict over the packages, the examples and the Python blocks of the documentation
	$(BIN)/mypy
	$(BIN)/mypy --config-file pyproject.toml examples/*.py $$($(PY) -m scripts.doc_snippets build/snippets)

format: $(DEV) ## rewrite the files in the house format
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

openapi: $(DEV) ## write openapi/openapi.json from the routes
	$(PY) -m service.openapi

bench: $(DEV) ## all figures, side by side with the peers, on this machine
	$(PY) -m bench $(BENCH_ARGS)

fuzz: $(DEV) ## hostile models, the long form
	$(PY) -m pytest tests/process/security -m "slow or not slow" $(PYTEST_ARGS)

killsweep: $(DEV) test-tools ## kill -9 at every durable system call, the long form
	$(PY) -m pytest tests/process/faults -m "slow or not slow" $(PYTEST_ARGS)

faultsweep: $(DEV) test-tools ## an error of disk, descriptors, memory or threads at every system call, the long form
	$(PY) -m pytest tests/process/faults/test_fault_sweep.py -m "slow or not slow" $(PYTEST_ARGS)

powerloss: $(DEV) ## 200 power cuts with SQLite and the folder store, from a journal of every write and flush
	$(PY) -m pytest tests/process/faults/test_power_loss.py -m "slow or not slow" $(PYTEST_ARGS)

audit: $(DEV) ## known vulnerabilities in the pinned dependencies; a package that cannot be checked fails it
	$(PY) -m scripts.audit

wheel: $(DEV) docs-site ## build the wheel into dist, with the documentation site in it
	$(PY) -m hatchling build -t wheel -d dist

sbom: $(DEV) ## what a release ships of other people: CycloneDX bill of materials and licence texts, into dist
	$(PY) -m scripts.sbom dist

image: ## build the CPU image and try it (ENGINE=docker or podman)
	scripts/try-image.sh

lock: ## pin every dependency again (needs uv; UV=path/to/uv)
	scripts/lock.sh

docs: $(DEV) ## write the generated reference pages
	$(PY) scripts/reference_docs.py

docs-site: $(DEV) ## build the documentation site into service/web/site; any warning fails it
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict

docs-pictures: $(DEV) test-tools ## screenshots of the pages into docs/pictures
	$(PY) scripts/docs_pictures.py

test-tools: $(DEV) ## Chromium, PostgreSQL and helm for the tests that use them
	@scripts/test-tools.sh $(TOOLS)
	@scripts/chart-tools.sh $(PY) $(VENV)/chart-tools

clean: ## remove what the targets built, except the environment
	rm -rf build dist service/web/site .demo tests/output .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/pyvenv.cfg:
	scripts/make-venv.sh "$(PYTHON)" "$(VENV)"

$(RUNTIME): constraints/runtime.txt pyproject.toml | $(VENV)/pyvenv.cfg
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints/runtime.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): constraints/dev.txt $(RUNTIME)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints/dev.txt
	@touch $@
