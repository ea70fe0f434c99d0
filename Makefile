# Every target sets up what it needs: Python 3.11 or later and make are enough to start with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench docs sync format clean help

help: ## what there is
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## the arcade on the embedded server, with simulated players (DEMO_SECONDS=20 stops by itself)
	$(BIN)/python -m demo

test: $(READY) ## all tests, against real servers and a real browser (ARGS="-k lock" for some)
	tools/install_chromium.sh
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## style, types, generated files, Lua scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/unasync.py --check
	$(BIN)/python tools/check_lua.py
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(READY) ## Tetrad's operations beside redis-py's, in one run
	$(BIN)/python -m bench

docs: $(READY) ## run every example of the README and of the docstrings, and check the links
	$(BIN)/python -m pytest tests/test_readme.py tests/test_docstrings.py $(ARGS)

sync: $(READY) ## generate _sync from _async
	$(BIN)/python tools/unasync.py

format: $(READY) ## format, and repair what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tools/unasync.py

clean: ## remove the environment and all caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tetrad needs Python 3.11 or later; name one with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no ensurepip; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
