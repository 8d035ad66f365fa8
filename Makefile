# Every target makes its own .venv and needs nothing before it but Python 3.11+ and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
export TRACKD_SHARED ?= $(abspath ../shared)

.PHONY: install demo test soak lint format bench bench-peers clean
.DEFAULT_GOAL := install

install: $(STAMP)

# Stale when a dependency list is newer than the stamp, and only then.
$(STAMP): pyproject.toml clients/python/pyproject.toml constraints.txt
	@echo "==> $(VENV): installing trackd and trackd-client (about a minute)"
	$(PYTHON) -c 'import sys; sys.exit("trackd needs Python 3.11 or newer; got " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on \
		-c constraints.txt -e 'clients/python[recordings]' -e '.[dev]'
	@echo "==> compiling the tracker for this machine (some seconds)"
	$(BIN)/python -c 'import trackd.daemon'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/trackd demo --out demo

test: $(STAMP)
	$(BIN)/python -m pytest tests

# The fault tests in their long form: about an hour and a half, most of it an hour's frames of four cameras.
# TRACKD_SOAK_SPEED=4 sends those four times as fast. What happens is said as it happens.
soak: $(STAMP)
	TRACKD_SOAK=1 $(BIN)/python -u -m pytest tests/fault -v -s --durations=0 -o timeout=1800

lint: $(STAMP)
	$(BIN)/ruff format --check daemon clients tests benchmarks
	$(BIN)/ruff check daemon clients tests benchmarks
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format daemon clients tests benchmarks
	$(BIN)/ruff check --fix daemon clients tests benchmarks

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py $(BENCH)

# What `make bench` runs beside ours, if it is there. It reads $(VENV) for numpy, scipy, opencv and torch.
bench-peers: $(PEERS_STAMP)

$(PEERS_STAMP): benchmarks/requirements-peers.txt $(STAMP)
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-deps -r benchmarks/requirements-peers.txt
	# The last release with a ByteTrack of its own, out of the way of the newer one.
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-deps --target $(PEERS)/sv27 supervision==0.27.0
	$(BIN)/python $(PURELIB) > $$($(PEERS)/bin/python $(PURELIB))/trackd.pth
	@touch $(PEERS_STAMP)

clean:
	rm -rf $(VENV) $(PEERS) demo results
