# Every target makes its own .venv and needs nothing before it but Python 3.11+ and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export TRACKD_SHARED ?= $(abspath ../shared)

.PHONY: install demo test lint format bench clean
.DEFAULT_GOAL := install

install: $(STAMP)

# Stale when a dependency list is newer than the stamp, and only then.
$(STAMP): pyproject.toml clients/python/pyproject.toml constraints.txt
	@echo "==> $(VENV): installing trackd and trackd-client (about a minute)"
	$(PYTHON) -c 'import sys; sys.exit("trackd needs Python 3.11 or newer; got " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on \
		-c constraints.txt -e 'clients/python[recordings]' -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/trackd demo --out demo

test: $(STAMP)
	$(BIN)/python -m pytest tests

lint: $(STAMP)
	$(BIN)/ruff format --check daemon clients tests benchmarks
	$(BIN)/ruff check daemon clients tests benchmarks
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format daemon clients tests benchmarks
	$(BIN)/ruff check --fix daemon clients tests benchmarks

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) demo results
