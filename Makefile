PYTHON ?= python3
VENV := .venv
# one more than cores, as some tests wait for browsers, clusters and other processes
WORKERS := $(shell $(PYTHON) -c "import os; print(min(4, (os.cpu_count() or 1) + 1))")
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long check bench docs pages release clean

help: ## Say what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## Make the environment with the exact versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_OPTIONS) --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY) ## Fetch the default model if need be and trace one prompt
	$(BIN)/elimtool trace "The capital of France is" --target Paris --out demo-run --overwrite

test: $(READY) ## Run the tests, files side by side, but for the longest; say at the end why some were skipped
	$(BIN)/python -m pytest -ra -m "not long" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test-long: $(READY) ## Run the longest tests: pages of docs/ and notebooks, type checkers, packages of others
	$(BIN)/python -m pytest -ra -m long --numprocesses $(WORKERS) --dist load

check: $(READY) ## Lint, formatting, types, that imports only go down and that nothing is unused
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file scripts/mypy.ini
	$(BIN)/lint-imports --no-logo
	$(BIN)/vulture

bench: $(READY) ## Time start-up, tracing, samplers and products against bare ones
	$(BIN)/python scripts/bench_startup.py
	$(BIN)/python scripts/bench_trace.py
	$(BIN)/python scripts/bench_samplers.py
	$(BIN)/python scripts/bench_products.py

docs: $(READY) ## Write the generated pages of docs/ anew, and build the site to site/
	$(BIN)/python scripts/make_table_docs.py
	$(BIN)/python scripts/make_sampler_docs.py
	$(BIN)/python scripts/make_glossary.py
	$(BIN)/python scripts/make_model_docs.py
	$(BIN)/python scripts/make_json_docs.py
	$(BIN)/mkdocs build --strict

pages: $(READY) ## Run the code in README.md and docs/, and put in what it prints now
	$(BIN)/python scripts/run_docs.py --update

release: $(READY) ## Build sdist and wheel, check them, and print what is left to do by hand
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python scripts/release.py

clean: ## Remove the environment, caches and the demo's run
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist site demo-run
