# make demo   the main job on embedded data: a table and a report
# make test   lint, types and the whole test suite
# make docs   this documentation as a site, in docs/_build/html
PYTHON ?= python3
BIN := .venv/bin
# the releases that docs/formats.md speaks of; the newest: make peers PEERS="sae-lens dictionary-learning eai-sparsify"
PEERS ?= sae-lens==6.54.12 dictionary-learning==0.1.0 eai-sparsify==1.3.3

.PHONY: demo test lint lowest peers docs docs-links clean

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

# saved SAEs between us and the packages whose formats we read, in an environment of its own
peers:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]" $(PEERS)
	@# comes with nnsight, built for CUDA, and does not load beside the CPU build of torch; nothing here needs it
	.venv-peers/bin/python -m pip uninstall --quiet --yes torchvision
	SSAE_DEBIAS_PEERS=1 HF_HUB_OFFLINE=1 .venv-peers/bin/python -m pytest tests/sae/test_sae_saelens_roundtrip.py

# A warning is an error: links, anchors and names that lead nowhere are warnings. Built anew each time, since a page
# that was read before does not warn again.
docs: .venv/docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env --write-all --jobs auto docs docs/_build/html
	@echo "Documentation: $(CURDIR)/docs/_build/html/index.html"

# links to other sites too; needs the network
docs-links: .venv/docs
	$(BIN)/python -m sphinx --quiet --builder linkcheck docs docs/_build/links

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

.venv/docs: .venv/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	@touch $@

clean:
	rm -rf .venv runs docs/_build docs/api
