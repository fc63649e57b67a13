# `make run` and `make test` set up everything they need; see README.md. `make bench BENCH="--help"` tells its options.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps

DEMO_DIR ?= data/demo

# Compiled code is kept, whatever the environment says: rewriting the tests' assertions takes each process seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run demo wheel test test-all mutants check docs audit bench soak migration lock clean

run: $(VENV)/.runtime
	exec $(BIN)/turnlog serve

# Fills a database of its own with a recorded week, once, and serves it; `rm -r data/demo` forgets it.
demo: $(VENV)/.runtime
	exec $(BIN)/turnlog demo --folder $(DEMO_DIR)

# The files that `pip install` and `uvx --from` take: the service with its pages, its schema and gunicorn's settings
# (turnlog_server), and the client for Python (turnlog).
wheel: $(VENV)/.runtime
	$(BIN)/python -m hatchling build -t wheel
	cd clients/python && $(abspath $(BIN))/python -m hatchling build -t wheel -d ../../dist

# Each of the processes has a database server, a browser and services of its own. At the end stands where the time went.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal --durations-table

# Minutes: everything that needs neither browsers nor faults nor patience, and one walk through a browser.
test: $(VENV)/.dev
	$(BIN)/python -m tests.browser.chromium # finds a browser, or installs one
	$(PYTEST) -m 'not (browser or faults or slow)'

# Everything, on every kind of store; this is what CI runs. tests/conftest.py says what the marks mean.
test-all: $(VENV)/.dev
	$(BIN)/python -m tests.browser.chromium
	$(PYTEST) --store both

# Tests the tests: puts bugs into a copy of the code and tells which of them no test notices.
mutants: $(VENV)/.dev
	$(BIN)/python -m tests.mutants

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.pins
	$(MKDOCS)

# Writes what the pages have from the code, then builds the site into site/; a broken link or anchor fails.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
docs: $(VENV)/.dev
	$(BIN)/python -m docs.reference
	$(MKDOCS)

# Asks PyPI whether a pinned version has a known hole. Needs a network; one that can't be asked about is a failure.
audit: $(VENV)/.dev
	$(BIN)/uv tool run --from pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes \
	    -r requirements.txt -r requirements-build.txt -r requirements-dev.txt

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(BENCH)

# Hours of faults; `python -m tests.faults --sizes soak --only NAME` runs some of them.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.faults --sizes soak

# Writes the release's migration, and what doctor compares with, from supabase/schemas.
migration: $(VENV)/.dev
	$(BIN)/python -m tests.migration

# Pins every dependency with its hashes; run after editing a *.in file, or the dependencies in pyproject.toml.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-find-links --custom-compile-command 'make lock'
lock: $(VENV)/.dev
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) requirements-build.in -o requirements-build.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Turnlog needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# The checkout itself is installed, too: that makes $(BIN)/turnlog, which runs the code as it is here.
$(VENV)/.runtime: $(VENV)/bin/python requirements.txt requirements-build.txt pyproject.toml
	$(PIP_INSTALL) -r requirements.txt -r requirements-build.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	$(PIP_INSTALL) -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
