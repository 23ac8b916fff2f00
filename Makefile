# `make demo` and `make test` do all of their own set-up; a second run installs nothing.
# PYTHON=/path/to/python3.12    the interpreter to build .venv with (default: the newest that works)
# TORCH_INDEX_URL=https://...   where torch comes from, for instance a CPU-only index

# A recipe's folder is the clone, so relative paths keep working when its path holds a space.
BIN := .venv/bin

export PYTHON TORCH_INDEX_URL
export DAGSTER_DISABLE_TELEMETRY := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := False
export MLFLOW_DISABLE_TELEMETRY := true
export NO_MKDOCS_2_WARNING := 1

.NOTPARALLEL:
.PHONY: help setup setup-dev data demo dev test ray schemas browser lint types docs format

help:
	@echo 'make demo    a differentially private release of the example catalogue, with its report'
	@echo 'make test    lint, types, the documentation and all tests'
	@echo 'make dev     the graph in a browser: Dagster at http://localhost:3000'
	@echo 'make ray     the tests of workers on a Ray cluster, which it starts here'
	@echo 'make schemas the files of deploy/ against linters and schemas'
	@echo 'make browser the graph in Chromium, with screenshots in browser/'
	@echo 'make docs    the documentation as a site, in site/'
	@echo 'make setup   only the packages (.venv)'
	@echo 'make data    only the example data (dvc pull)'
	@echo 'make format  rewrite the sources in the house style'

setup:
	@sh scripts/setup.sh run

setup-dev:
	@sh scripts/setup.sh dev

# An archive of the sources has no .git, which DVC must be told.
data: setup
	@[ -e .git ] || $(BIN)/python -m dvc config --local core.no_scm true
	@[ -d data ] || $(BIN)/python -m dvc pull data.dvc

demo: data
	$(BIN)/dptabimage release --data data --epsilon 3 --delta 1e-6 --n 4000 --seed 1

dev: data
	@mkdir -p .dagster && cp dagster_project/orchestration/dagster.yaml .dagster/dagster.yaml
	DAGSTER_HOME="$$(pwd)/.dagster" $(BIN)/dagster dev -w workspace.yaml

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

# From the root, so that the pages are generated from this tree's code. Links must hold.
docs: setup-dev
	$(BIN)/python -m mkdocs build --strict

# A process grows to 2 GB. Files are shared out in their order, in which the slowest are not last.
test: lint types docs data
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests \
		-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Ray is large and takes seconds to start, so it has a command of its own.
ray:
	@sh scripts/setup.sh ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests_ray

# The schemas of Kubernetes are large, and nothing here needs a cluster.
schemas:
	@sh scripts/setup.sh deploy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests_deploy

# Needs Chromium and its driver, which a bare machine lacks.
browser: setup-dev
	$(BIN)/python scripts/browser.py --out browser

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
