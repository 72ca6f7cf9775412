# make sweep: make the environment, install, run the ablation, print its table.
# make test:  the same environment, the tests.
# make fuzz:  damaged files of every kind, N=500 of each; make chaos: N=40 faults in running sweeps.
# make bench: the figures of docs/performance.md as one table, 24 minutes (ARGS=--quick: a look).
# make docs:  the site of docs/ in site/; make reference: the pages and the schema of docs/reference.

VENV ?= .venv
PYTHON ?= python3
SWEEP ?= sweeps/ablation.yaml
ARGS ?=
N ?= 40
STAMP := $(VENV)/.installed

.PHONY: sweep test lint types docs reference fuzz chaos bench
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

fuzz: $(STAMP)
	FUZZ=$(N) $(VENV)/bin/python -m pytest -q tests/fuzz

chaos: $(STAMP)
	$(VENV)/bin/python tests/chaos/chaos.py --count $(N) --out benchmarks/chaos.csv

bench: $(STAMP)
	$(VENV)/bin/python benchmarks/bench.py $(ARGS)

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
