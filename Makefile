# Dongcha. `make` or `make help` says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
UV := $(VENV)/bin/uv
# uv does not read pip's settings: hand it the folder of extra wheels where pip has one.
FIND_LINKS := $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)")
# Stages are processes of their own: without byte code each would compile thousands of modules anew.
export UV_COMPILE_BYTECODE := 1
# A secret of your own in production; the sample chats are invented, so theirs may be public.
DEMO_ENV := DONGCHA_PRIVACY__PSEUDONYM_KEY=$${DONGCHA_PRIVACY__PSEUDONYM_KEY:-demo-only-not-a-secret}

# DAG files import each other as Airflow has them: from their own folder.
TYPES := $(VENV)/bin/mypy && cd dags && ../$(VENV)/bin/mypy --config-file ../pyproject.toml *.py

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.synced: requirements/dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@command -v java >/dev/null || { echo "Java 17 is needed by Spark: install a JRE, for example openjdk-17-jre-headless" >&2; exit 1; }
	@echo "== environment for orchestration and jobs ($(VENV))"
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(VENV)/bin/pip install --quiet "$$(grep '^uv==' requirements/dev.txt)"
	$(UV) pip sync --python $(RUN) $(FIND_LINKS) requirements/dev.txt
	touch $@

$(VENV)/spark-classes.jsa: $(VENV)/.synced
	@echo "== Spark's Java classes, kept so that every stage starts faster"
	$(RUN) -m jobs class-archive 2>&1 | tail -n 1

.PHONY: setup
setup: $(VENV)/.synced $(VENV)/spark-classes.jsa ## Make both environments: jobs (.venv) and LLM server (.venv-llm)
	@bash requirements/setup-llm.sh

.PHONY: demo
demo: setup ## Run the whole night on the sample chats, on real engines
	@$(DEMO_ENV) $(RUN) -m jobs demo --ds 2026-11-20

.PHONY: test
test: setup ## Set up, check style and types, run all tests
	@bash tests/install-services.sh
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(TYPES)
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

BENCH_CHATS := --input samples/chats/2026-11-20/wecom.jsonl --limit 32
BENCH_GOLD := --train var/bench/gold/train.jsonl --test var/bench/gold/test.jsonl
.PHONY: bench
bench: setup ## Client, naive way, student (after `make demo`; takes a quarter of an hour)
	$(RUN) -m jobs export-gold --ds 2026-11-20 --out var/bench/gold/all.jsonl
	$(RUN) -m jobs split --input var/bench/gold/all.jsonl --out var/bench/gold --train train,calibration --test test
	$(RUN) -m jobs bench student $(BENCH_GOLD)
	$(RUN) -m jobs serve up
	$(RUN) -m jobs bench client $(BENCH_CHATS) --tokenizer var/models/smollm2-135m
	$(RUN) -m jobs bench naive $(BENCH_GOLD) --taxonomy taxonomies/wealth-advisory.yaml
	$(RUN) -m jobs serve down

.PHONY: bench-induction
bench-induction: $(VENV)/.synced ## Induction on the public sets in the folder DATA=… (half an hour)
	$(RUN) -m jobs bench induction --data "$(or $(DATA),$(error say where the public sets lie: make bench-induction DATA=FOLDER))" --judge 0 --judge 0.1 --judge 0.2

.PHONY: test-fast
test-fast: $(VENV)/.synced ## Tests without LLM server, Spark and Airflow
	$(RUN) -m pytest -m "not llm and not spark and not airflow and not ui" -q

.PHONY: test-ui
test-ui: setup ## A taxonomy approved in Airflow's UI, by a browser (a quarter of an hour; not part of `make test`)
	@bash tests/install-services.sh browser
	mkdir -p var
	$(RUN) -m pytest -m ui -s --basetemp var/test-ui

.PHONY: lint
lint: $(VENV)/.synced ## Style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(TYPES)

.PHONY: format
format: $(VENV)/.synced ## Put the code in shape
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: airflow
airflow: setup ## Airflow's own UI and scheduler on http://127.0.0.1:8080
	@$(DEMO_ENV) $(RUN) -m jobs airflow standalone

.PHONY: mlflow
mlflow: $(VENV)/.synced ## MLflow's UI on http://127.0.0.1:5000
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	$(VENV)/bin/mlflow server --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///var/mlflow/mlflow.sqlite

.PHONY: lock
lock: $(VENV)/.synced ## Resolve the requirements anew into URL-free locks
	$(UV) pip compile -q --no-emit-index-url --python-version 3.11 requirements/dev.in -o requirements/dev.txt
	$(UV) pip compile -q --no-emit-index-url --python-version 3.11 requirements/jobs.in -c requirements/dev.txt -o requirements/jobs.txt
	$(UV) pip compile -q --no-emit-index-url --no-annotate --generate-hashes --python-version 3.11 $(FIND_LINKS) \
	--overrides requirements/llm-overrides.txt requirements/llm.in -o requirements/llm.txt

.PHONY: clean
clean: ## Remove all output (var/); environments stay
	rm -rf var
