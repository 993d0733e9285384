# make demo   the main job on embedded data: a table and a report
# make test   lint, types and the whole test suite
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint lowest clean

demo: .venv/demo
	$(BIN)/ssae-debias run recipes/bias_in_bios_demo.yaml --out runs/demo $(DEMO_FLAGS)

test: .venv/test lint
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the suite against the oldest dependencies that pyproject.toml allows, in an environment of its own
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable ".[test]"
	HF_HUB_OFFLINE=1 .venv-lowest/bin/python -m pytest -m "not slow"

.venv/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or later is needed; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/demo: .venv/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[demo]"
	@touch $@

.venv/test: .venv/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	@touch $@

clean:
	rm -rf .venv runs
