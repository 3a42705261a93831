# What a newcomer types: `make demo`, `make test`. Everything that these need beyond git, Python and make,
# they install into .venv from the hash-locked requirements.

SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
AUDIT ?= .venv-audit
MUTANTS ?= regions images fit
DEMO ?= demo
SITE ?= site
PYTEST_WORKERS ?= 2
# one thread a worker: the suite runs as many workers as there are cores
TEST_ENV := ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MPLBACKEND=Agg PATH="$(abspath $(BIN)):$$PATH"

.PHONY: help demo docs test test-wheel test-oldest test-pythons lint faults mutants audit sbom container bench lock install clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## the environment in .venv

$(VENV)/.installed: requirements-dev.lock pyproject.toml scripts/find-python
	@python=$$(scripts/find-python) && echo "Installing into $(VENV) with $$python" && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python scripts/warm-kernels
	@touch $@

demo: $(VENV)/.installed  ## two synthetic participants from images to regional R2* (about 4 minutes)
	BIN=$(BIN) DEMO=$(DEMO) scripts/demo

docs: $(VENV)/.docs  ## the documentation in site/, its tutorials run, its links checked
	$(TEST_ENV) $(BIN)/python -m sphinx -b html -E -W --keep-going -q docs $(SITE)
	$(BIN)/python docs/_ext/check_site.py $(SITE)

$(VENV)/.docs: $(VENV)/.installed requirements-docs.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-docs.lock
	@touch $@

test: $(VENV)/.installed  ## all tests but the long suites
	$(TEST_ENV) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

test-wheel: $(VENV)/.installed  ## the quick tests and the doctests against the built wheel
	BIN=$(BIN) scripts/test-wheel

test-oldest:  ## a sample of the tests with the oldest dependencies that pyproject.toml allows
	$(TEST_ENV) scripts/test-elsewhere requirements-oldest.lock 3.11

test-pythons:  ## the same sample with the newest dependencies on the other Pythons of this machine
	$(TEST_ENV) scripts/test-elsewhere requirements-dev.lock 3.12 3.13

lint: $(VENV)/.installed  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: $(VENV)/.installed  ## the whole battery of faults (long)
	$(TEST_ENV) $(BIN)/python -m pytest -m faults $(PYTEST_ARGS)

mutants: $(AUDIT)/.installed $(VENV)/.installed  ## mutation testing of fit, regions and images (long)
	$(AUDIT)/bin/python scripts/mutants.py $(MUTANTS) --python $(abspath $(BIN))/python --least 0.85

$(AUDIT)/.installed: requirements-audit.lock scripts/find-python
	@python=$$(scripts/find-python) && "$$python" -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-audit.lock
	@touch $@

audit: $(AUDIT)/.installed  ## known flaws in the locked dependencies
	$(AUDIT)/bin/python scripts/audit.py

sbom: $(AUDIT)/.installed  ## a bill of materials in CycloneDX form
	$(AUDIT)/bin/python scripts/audit.py --sbom sbom.json

container: $(VENV)/.installed  ## build the image and run it as a cluster would (root; buildah, podman, mmdebstrap)
	BIN=$(BIN) scripts/container-test

bench: $(VENV)/.installed  ## benchmarks: ratios measured side by side (long)
	$(BIN)/python -m benchmarks

lock: $(VENV)/.installed  ## renew the lock files from pyproject.toml
	$(BIN)/python scripts/lock.py

clean:  ## remove what the targets made
	rm -rf $(VENV) $(AUDIT) sbom.json $(DEMO) $(SITE) jupyter_execute .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
