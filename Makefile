# make run      set up and show the index at work
# make fleet    the same for a fleet of three hosts, on an etcd that is fetched and started
# make test     set up and run format, lint, types, packages, tests, and two real Xen hosts:
#               both kinds of xenstored, both machines; with HOSTS=all, or CI set, all eight
# make docs     build the pages in docs/ and run their examples
# make pythons  native tests on the other Pythons, which are fetched; with CI set test does it too
# make packages wheel, sdist and .debs into build/dist, the last in an unpacked Debian
# The first three need a Python of at least 3.11 and the network the first time, and nothing else.

PYTHONS := 3.13 3.14
NATIVE := $(addprefix tests/,core listening whole wire shape)
VENV := .venv
BIN := $(VENV)/bin

# The first one that is new enough.
PYTHON ?= $(shell for python in python3.11 python3.13 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo $$python && break; done)
WITH_PYTHON = $(or $(PYTHON),$(error domindex needs Python 3.11 or newer; install one \
	(Debian 12 and later: apt install python3 python3-venv)))

ifdef HOSTS
export DOMINDEX_HOSTS := $(HOSTS)
endif

.PHONY: run fleet test check docs recording pythons packages figures fleet-scale counts bench clean

run: $(VENV)/run.stamp
	@$(BIN)/python examples/tour.py

# What cannot be fetched the example says, and goes on in memory.
fleet: $(VENV)/run.stamp
	@$(BIN)/python -c "import aetcd, grpc" 2>/dev/null || \
		$(WITH_PYTHON) tools/environment.py $(VENV) --extra fleet || true
	@$(BIN)/python tools/etcd.py >/dev/null || true
	@$(BIN)/python examples/fleet.py

test: check
	$(BIN)/python -m pytest -n auto
ifdef CI
	HYPOTHESIS_PROFILE=quick $(MAKE) pythons
endif

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	PYTHONPATH=$(CURDIR) $(BIN)/basedpyright --ignoreexternal --verifytypes domindex
	$(BIN)/python -m build --outdir build/dist
	$(MAKE) docs

docs: $(VENV)/dev.stamp
	$(BIN)/python -m sphinx -E -W --keep-going -n -q -d build/doctrees docs build/docs
	$(BIN)/python -m pytest -q tests/shape/test_docs.py -k runs
	@echo "the pages are in build/docs/index.html"

recording: $(VENV)/dev.stamp
	$(BIN)/python tools/recording.py

pythons: $(PYTHONS:%=python-%)

python-%: $(VENV)-%/test.stamp
	$(VENV)-$*/bin/python -m pytest -n auto $(NATIVE)

packages: $(VENV)/dev.stamp
	$(BIN)/python tools/packages.py build/dist

figures: $(VENV)/dev.stamp
	$(BIN)/python -m tests.measure.figures

fleet-scale: $(VENV)/dev.stamp
	$(BIN)/python -m tests.measure.fleet.scale

counts: $(VENV)/dev.stamp
	$(BIN)/python -m tests.measure.cost

bench: $(VENV)/dev.stamp
	$(BIN)/python -m tests.bench.on_hosts

$(VENV)/run.stamp: pyproject.toml tools/environment.py
	@$(WITH_PYTHON) tools/environment.py $(VENV)
	@touch $@

$(VENV)/dev.stamp: pyproject.toml tools/environment.py
	@$(WITH_PYTHON) tools/environment.py $(VENV) --group dev
	@touch $@ $(VENV)/run.stamp

$(VENV)-%/test.stamp: pyproject.toml tools/environment.py tools/unpacked.py $(VENV)/dev.stamp
	@$(BIN)/python tools/environment.py $(VENV)-$* --python $* --group test
	@touch $@

.PRECIOUS: $(VENV)-%/test.stamp  # which make would remove, as only a pattern names it

clean:
	rm -rf $(VENV) $(VENV)-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
