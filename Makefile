# Everything runs with .venv's Python if there is one, else with the one on the PATH.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: check test test-slow test-cluster test-browser format

check:  ## format, lint, types, architecture: seconds
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pyright --pythonpath $(PYTHON)
	$(PYTHON) -m pytest tests/test_architecture.py

test:  ## everything that needs only a CPU: minutes
	@# In their order: sorted by their number of tests, files with few long ones would come last.
	$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow:  ## what takes minutes more: every prediction on record is made again
	$(PYTHON) -m pytest -m slow tests

test-cluster:  ## what needs a Ray cluster, on this machine; after pip install '.[ray]'
	$(PYTHON) -m pytest -m cluster tests/integration

test-browser:  ## what needs Chromium on the PATH: the reports, opened
	$(PYTHON) -m pytest -m browser tests/integration

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
