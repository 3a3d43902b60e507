# Every target installs into .venv and reuses it. Needed: python3 (3.11 to 3.13, with venv), make
# and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROOT ?= demo-lake
JOBS ?= 2
CASES ?= 2000

.PHONY: demo test fuzz flink-test s3-test review-test lint bench clean help

help:  ## List the targets.
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "fleetmill needs Python 3.11 to 3.13: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Installing into $(VENV) (about a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## Run a small synthetic fleet through every job (under 2 minutes).
	@$(BIN)/fleetmill demo --root $(ROOT)

test: $(STAMP)  ## Run the tests that need no server and are not slow.
	@$(BIN)/pytest -n $(JOBS) -m "not slow and not server and not flink and not s3 and not review"

fuzz: $(STAMP)  ## Try hostile input of every kind: make fuzz CASES=20000 SEED=1.
	@FLEETMILL_FUZZ_SEED=$(or $(SEED),$(shell date +%s)) FLEETMILL_FUZZ_CASES=$(CASES) \
	  FLEETMILL_FUZZ_ONLY=$(CASE) $(BIN)/pytest -q -n $(JOBS) --dist worksteal tests/fuzz

flink-test: $(STAMP)  ## Run the tests on a Flink cluster; needs Java 17 and Maven.
	@$(BIN)/python -m tests.fetch flink-test
	@echo "Fetching Flink and the workers' environment (some minutes, once)"
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --durations 10 -m flink

s3-test: $(STAMP)  ## Run the tests on an S3 server; needs Go.
	@$(BIN)/python -m tests.fetch s3-test
	@echo "Building the S3 server (a minute or two, once)"
	@$(BIN)/pytest -n $(JOBS) --durations 10 -m s3

review-test: $(STAMP)  ## Run the tests on a Label Studio server, in a browser too.
	@echo "Installing Label Studio, and Chromium if there is none (some minutes, once)"
	@$(BIN)/python -m tests.fetch review-test
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --durations 10 -m review

lint: $(STAMP)  ## Check style and types.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(STAMP)  ## Run the benchmarks: make bench ONLY="mine plan".
	@$(BIN)/python -m benchmarks $(ONLY)

clean:  ## Remove all that the targets created.
	rm -rf $(VENV) $(ROOT) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache fuzz-failures artefacts
