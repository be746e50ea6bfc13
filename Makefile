# make run   set up and show the index at work
# make test  set up and run everything: format, lint, types, packages, tests, eight real Xen hosts
# Both need a Python of at least 3.11 and the network the first time, and nothing else.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.13 python3.12 python3,$(shell command -v $(p))))
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check figures counts bench clean

run: $(VENV)/run.stamp
	@$(BIN)/python examples/tour.py

test: check
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m build --outdir build/dist

figures: $(VENV)/dev.stamp
	$(BIN)/python -m tests.measure.figures

counts: $(VENV)/dev.stamp
	$(BIN)/python -m tests.measure.cost

bench: $(VENV)/dev.stamp
	$(BIN)/python -m tests.bench.on_hosts

$(VENV)/run.stamp: pyproject.toml tools/environment.py
	@$(PYTHON) tools/environment.py $(VENV)
	@touch $@

$(VENV)/dev.stamp: pyproject.toml tools/environment.py
	$(PYTHON) tools/environment.py $(VENV) --group dev
	@touch $@ $(VENV)/run.stamp

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
