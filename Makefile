# Every target makes the environment it needs: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help screens demo test soak bench check format clean
help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "respool needs Python 3.11 or newer; say make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

check: $(VENV)/.ready ## format, lint, types and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m 'not agent and not registry and not image and not soak' tests

format: $(VENV)/.ready ## let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check ## everything, with real agents, the real OpenAI client and the wheel
	$(BIN)/python -m pytest -q -m '(agent or registry or image) and not soak' tests

soak: $(VENV)/.ready ## kills, faults and load for hours if asked to: SOAK="-k crash" takes a part
	$(BIN)/python -m pytest -q -s -o timeout=0 -m soak $(SOAK) tests

bench: $(VENV)/.ready ## what respool costs, beside others: a table, docs/performance.md lists the options
	$(BIN)/python -m tests.bench $(BENCH)

screens: $(VENV)/.ready ## draw docs/screens anew, as the command line draws them
	$(BIN)/python -m tests.cli.draw docs/screens

demo: $(VENV)/.ready ## a real agent, respool in front, a cut and a resume
	$(BIN)/python -m examples.demo

clean: ## remove what the targets made
	rm -rf $(VENV) .agents build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
