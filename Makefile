# make sweep: make the environment, install, run the ablation, print its table.
# make test:  the same environment, the tests.
# make docs:  the site of docs/ in site/; make reference: the pages and the schema of docs/reference.

VENV ?= .venv
PYTHON ?= python3
SWEEP ?= sweeps/ablation.yaml
ARGS ?=
STAMP := $(VENV)/.installed

.PHONY: sweep test lint types docs reference
sweep: $(STAMP)
	$(VENV)/bin/python run_sweep.py $(SWEEP) $(ARGS)

# Compiled once: where PYTHONDONTWRITEBYTECODE is set, each process of the tests would do it again.
test: $(STAMP)
	$(VENV)/bin/python -m compileall -q vididi
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP)
	$(VENV)/bin/mypy

reference: $(STAMP)
	$(VENV)/bin/python docs/reference/make.py

docs: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade "pip>=25"
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)
