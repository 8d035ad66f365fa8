# Every target sets up .venv first; only Python 3.11+ and make must be installed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
DREEM  := .venv-dreem
DREEM_STAMP := $(DREEM)/.installed
PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
export TRACKD_SHARED ?= $(abspath ../shared)

.PHONY: install demo fleet-demo test browser soak docs site lint format bench bench-peers bench-dreem gpu gpu-bundle clean
.DEFAULT_GOAL := install

install: $(STAMP)

# Runs again when a dependency list is newer than the stamp.
$(STAMP): pyproject.toml clients/python/pyproject.toml constraints.txt
	@echo "==> $(VENV): installing trackd and trackd-client (about a minute)"
	$(PYTHON) -c 'import sys; sys.exit("trackd needs Python 3.11 or newer; got " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on \
		-c constraints.txt -e 'clients/python[recordings]' -e '.[dev]'
# opencv-python and opencv-python-headless both install the folder cv2. albumentations requires the headless one, which
# needs no libGL; TrackEval requires the other. pip cannot exclude a package, and to uninstall either deletes the
# shared files. So both are uninstalled, and the headless one is installed again.
	$(BIN)/python -m pip uninstall --yes --quiet opencv-python opencv-python-headless
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -c constraints.txt opencv-python-headless
	@echo "==> compiling the tracker for this machine (some seconds)"
	$(BIN)/python -c 'import trackd.daemon'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/trackd demo --out demo

# Three NATS servers, three daemons and six cameras on loopback; one of the daemons is killed in the middle.
fleet-demo: $(STAMP)
	$(BIN)/trackd fleet demo --out fleet-demo

# Two processes, each with whole files of tests: the tests wait for daemons and clocks for half of their time.
test: $(STAMP) browser
	$(BIN)/python -m pytest tests -n 2 --dist loadfile

# Chromium for the tests of the viewer's page, which are skipped without it. Installed only by root on Debian or the like.
browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		echo "==> installing Chromium for the tests of the viewer's page" && \
		timeout 600 sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium' \
		>/dev/null 2>&1; } || echo "==> no Chromium: the tests of the viewer's page are skipped"

# The long form of the fault tests. It takes about two and a half hours: in one of them four cameras send frames, and for
# fifty minutes inputs are fuzzed. TRACKD_SOAK_SPEED=4 sends these frames four times as fast. The tests print their progress.
soak: $(STAMP)
	TRACKD_SOAK=1 $(BIN)/python -u -m pytest tests/fault -v -s --durations=0 -o timeout=1800

# The docs match the code (commands, links, paths, keys, codes and examples) and build as a site. A part of `test`.
docs: $(STAMP)
	$(BIN)/python -m pytest tests/unit/test_docs.py tests/unit/test_docs_commands.py tests/unit/test_docs_contributing.py \
		tests/unit/test_docs_site.py

# The docs as a site, in the folder site: open site/index.html.
site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

lint: $(STAMP)
	$(BIN)/ruff format --check daemon clients tests benchmarks docs examples
	$(BIN)/ruff check daemon clients tests benchmarks docs examples
	$(BIN)/mypy
	$(BIN)/mypy examples
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff format daemon clients tests benchmarks docs examples
	$(BIN)/ruff check --fix daemon clients tests benchmarks docs examples

# What a GPU is worth: parity, tests and times on it, into gpu-results.json.
gpu: $(STAMP)
	$(BIN)/python benchmarks/gpu.py $(GPU)

# For a machine with a GPU and without network: see docs/gpu.md.
gpu-bundle: $(STAMP)
	$(BIN)/python benchmarks/gpu_bundle.py

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py $(BENCH)

# Other trackers, which `make bench` also measures if they are installed. They use numpy, scipy, opencv and torch of
# $(VENV).
bench-peers: $(PEERS_STAMP)

$(PEERS_STAMP): benchmarks/requirements-peers.txt $(STAMP)
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-deps -r benchmarks/requirements-peers.txt
	# supervision 0.27.0 is the last release that contains ByteTrack; its folder keeps it apart from the newer release.
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-deps --target $(PEERS)/sv27 supervision==0.27.0
	$(BIN)/python $(PURELIB) > $$($(PEERS)/bin/python $(PURELIB))/trackd.pth
	@touch $(PEERS_STAMP)

# DREEM itself, which `make bench` also measures if it is installed. It uses torch, sleap-io and others of $(VENV). DREEM
# states Python 3.12; it also runs on 3.11.
bench-dreem: $(DREEM_STAMP)

$(DREEM_STAMP): benchmarks/requirements-dreem.txt $(STAMP)
	$(PYTHON) -m venv --clear $(DREEM)
	$(DREEM)/bin/python -m pip install --disable-pip-version-check --no-deps --ignore-requires-python \
		-r benchmarks/requirements-dreem.txt
	$(BIN)/python $(PURELIB) > $$($(DREEM)/bin/python $(PURELIB))/trackd.pth
	@touch $(DREEM_STAMP)

clean:
	rm -rf $(VENV) $(PEERS) $(DREEM) demo fleet-demo results site
