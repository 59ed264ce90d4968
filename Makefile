# make run | demo | dev | test | soak | lint | bench | clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run demo dev test unit soak lint format bench clean system

run: $(VENV)/run
	$(BIN)/oxidecast run $(ARGS)

demo: $(VENV)/run
	$(BIN)/oxidecast run --demo $(ARGS)

dev: $(VENV)/run
	$(BIN)/python -m oxidecast.dev $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/run: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/test: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/run

# The real clients and servers that the tests use: installed on Debian as root, named elsewhere.
system:
	sh tests/install_system.sh

test: system
	$(MAKE) $(VENV)/test
	$(MAKE) lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

unit: $(VENV)/test
	$(BIN)/python -m pytest -n 2 --ignore tests/e2e $(ARGS)

soak: system $(VENV)/test
	OXIDECAST_SOAK=1 $(BIN)/python -m pytest tests $(ARGS)

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: system $(VENV)/test
	for script in bench/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist oxidecast/web/static .mypy_cache .ruff_cache .pytest_cache .hypothesis
