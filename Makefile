# make run | demo | dev | test | unit | soak | test-hardware | lint | format | bench | clean
#
# Everything is installed into .venv. ARGS is handed on: make run ARGS="--config my.toml", make unit ARGS=tests/rtmp

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PAGES := $(shell find oxidecast/web/player -name node_modules -prune -o -type f -print)

.PHONY: run demo dev test unit soak test-hardware lint format bench clean system

run: $(VENV)/run
	@exec $(BIN)/oxidecast run $(ARGS)

demo: $(VENV)/run
	@exec $(BIN)/oxidecast run --demo $(ARGS)

# Starts again whenever the code changes.
dev: $(VENV)/run
	@exec $(BIN)/python -m oxidecast.dev $(ARGS)

# Debian keeps a part of the standard library in a package of its own, python3-venv.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "OxideCast needs Python 3.11 or newer; name it with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tests/install_system.sh python3-venv
	@echo "Installing into $(VENV): this takes a minute, once"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/run: $(BIN)/python pyproject.toml hatch_build.py $(PAGES)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/test: $(BIN)/python pyproject.toml hatch_build.py $(PAGES)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/run

# The real clients and servers that the tests use: installed on Debian as root, named elsewhere.
system:
	@sh tests/install_system.sh

# Half an hour is several times what all tests together take; a run that hangs beyond it is ended.
PYTEST := timeout --kill-after=30 1800 $(BIN)/python -m pytest

# Two cores are few for encoders, players and a browser at once: what fails is tried once more by itself, and said so.
AGAIN = status=$$?; [ $$status = 1 ] || exit $$status; echo "Once more, one by one:"; $(PYTEST) --last-failed --last-failed-no-failures none

test: system $(VENV)/test lint
	@rm -rf .pytest_cache
	$(PYTEST) -n 2 --dist loadscope -m "not alone" --ignore tests/e2e --ignore tests/packaging $(ARGS) || { $(AGAIN); }
	@rm -rf .pytest_cache
	$(PYTEST) -n 2 --dist loadscope -m "not alone" tests/e2e tests/packaging $(ARGS) || { $(AGAIN); }
	@rm -rf .pytest_cache
	$(PYTEST) -m alone $(ARGS) || { $(AGAIN); }

# What takes minutes, and prints what it measured.
soak: system $(VENV)/test
	$(BIN)/python -m pytest --timeout 1800 -s tests/soak/soak_*.py $(ARGS)

# A short ladder on each family of encoders that works on this machine; the others say why they do not.
test-hardware: system $(VENV)/test
	$(BIN)/python -m pytest --timeout 120 -s -rs tests/transcoding/hardware.py $(ARGS)

# Without the real clients and servers, but for PostgreSQL (sh tests/install_system.sh postgresql); a few tests use
# ffmpeg and ffprobe.
unit: $(VENV)/test
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not alone" --ignore tests/e2e --ignore tests/packaging $(ARGS)

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/test
	@sh tests/install_system.sh ffmpeg nginx-light libnginx-mod-rtmp wrk
	for script in bench/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist oxidecast/web/static oxidecast/web/player/node_modules
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
