# Two commands do everything: `make run` shows a mesh of three instances, `make test` proves it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# ASYNC9xx are optional and off by default (naming the others turns them on); ASYNC127 wants another HTTP client. Tests
# poll real processes, hand `task_status` on, give conditions that need not wait, and close sockets as they go.
ASYNC_OFF := ASYNC9,ASYNC127
ASYNC_OFF_IN_TESTS := $(ASYNC_OFF),ASYNC102,ASYNC105,ASYNC110,ASYNC114,ASYNC120,ASYNC124,ASYNC128
# It takes 2 ms a line, and has nothing to say about a file that has none of these words.
ASYNC_WORDS := async|await|trio
STARTABLE := run,serve,live,__call__,_until_asked,_serve_api
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test lint types unit lock clean

help:
	@echo "make run    three instances on loopback work through a project, a live table; Ctrl-C drains them"
	@echo "make test   ruff, flake8-async, mypy --strict, then pytest"
	@echo "make lock   pin the dependencies anew (needs uv)"
	@echo "make clean  remove the virtual environment and caches"

run: $(VENV)/ready
	@$(BIN)/meshd demo

test: lint types unit

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	grep -rlwE --include='*.py' '$(ASYNC_WORDS)' meshd | xargs -P 2 -n 9 $(BIN)/flake8-async --disable $(ASYNC_OFF) --startable-in-context-manager $(STARTABLE)
	grep -rlwE --include='*.py' '$(ASYNC_WORDS)' tests | xargs -P 2 -n 9 $(BIN)/flake8-async --disable $(ASYNC_OFF_IN_TESTS)

types: $(VENV)/ready
	$(BIN)/mypy

unit: $(VENV)/ready
	$(BIN)/pytest -n 2

# A Python without ensurepip (Debian's, bare) borrows the pip that it has outside the environment.
$(VENV)/ready: requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "meshd needs Python 3.11 ($(PYTHON) is not on PATH; try make PYTHON=python3)"; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) 2>/dev/null || $(PYTHON) -m venv --clear --without-pip $(VENV)
	if [ -x $(BIN)/pip ]; then pip="$(BIN)/python -m pip"; else pip="$(PYTHON) -m pip --python $(BIN)/python"; fi; \
	$$pip install --quiet --require-hashes -r requirements-dev.lock && \
	$$pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

lock:
	uv pip compile --generate-hashes --python-version 3.11 --no-header --quiet pyproject.toml -o requirements.lock
	uv pip compile --generate-hashes --python-version 3.11 --no-header --quiet --extra dev pyproject.toml -o requirements-dev.lock -c requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
