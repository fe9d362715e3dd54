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
	@awk 'BEGIN {FS = ":.*## "} \
	  function show(name, text,    n, i, words, line) { n = split(text, words, " "); line = ""; \
	    for (i = 1; i <= n; i++) { if (length(line words[i]) > 84) { printf "  %-28s%s\n", name, line; name = ""; line = "" } \
	      line = line words[i] " " } printf "  %-28s%s\n", name, line } \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {show("make " $$1, $$2)} \
	  /^#: / {split(substr($$0, 4), part, ": "); show("make " part[1], substr($$0, 6 + length(part[1])))}' $(MAKEFILE_LIST)

##@ Demo
.PHONY: demo demo-down
demo: ## start a real cluster and a shop that sends e-mail, and measure each promise
	@PYTHONPATH=tools $(PYTHON) -m demo up
demo-down: ## remove what the demo started
	@PYTHONPATH=tools $(PYTHON) -m demo down

##@ Local cluster
.PHONY: cluster-up cluster-down cluster-status
cluster-up: ## start a real Kubernetes on this machine (or use the one you name)
	@$(LOCALCLUSTER) up
cluster-down: ## stop it and remove everything
	@$(LOCALCLUSTER) down
cluster-status: ## show what runs, where, and how to reach it
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
	@$(UV) pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes tests/integration/worker/applications/monitors-requirements.in -o tests/integration/worker/applications/monitors-requirements.lock
	@for it in tests/applications/requirements/*.in; do \
	  $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes $$it -o $${it%.in}.lock; done # as each application was tested
	@$(UV) pip compile --quiet --upgrade --no-deps --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes tools/matrix/servers.in -o tools/matrix/servers.lock
	@for it in go wheel; do d=tools/localcluster/$$it-requirements; \
	  $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes $$d.in -o $$d.lock; done

##@ Checks and tests
.PHONY: check lint scan format types imports verify generate manifests golden unit integration e2e test
check: lint types imports verify unit ## lint, types, import contracts, generated files, unit tests (a minute; the first time it builds helm)

lint: $(VENV)/operator.stamp ## ruff: lint and formatting; known vulnerabilities if a database can be reached
	@$(OPERATOR)/ruff check --quiet .
	@$(OPERATOR)/ruff format --quiet --check .
	@tools/scan --if-possible --uv $(UV)

scan: $(UV) ## known vulnerabilities in dependencies and images; fails if no database can be reached
	@tools/scan --uv $(UV)

format: $(VENV)/operator.stamp ## rewrite the formatting
	@$(OPERATOR)/ruff check --quiet --fix . || true
	@$(OPERATOR)/ruff format --quiet .

types: $(VENV)/operator.stamp $(VENV)/worker.stamp ## mypy --strict, and the types that users see (tests/typing)
	@$(OPERATOR)/mypy --strict operator/src
	@$(WORKER)/mypy --strict worker/src tests/typing
	@MYPYPATH=tools $(OPERATOR)/mypy --strict --explicit-package-bases tools/localcluster tools/demo tools/matrix tools/mutants

imports: $(VENV)/operator.stamp $(VENV)/worker.stamp ## import contracts: rooms import only what they may
	@for it in operator worker; do out=$$(cd $$it && ../$(VENV)/$$it/bin/lint-imports --no-cache 2>&1) || { echo "$$out"; exit 1; }; done

generate: $(VENV)/operator.stamp ## rewrite all generated files: CRD, references, contract schema, and `manifests`
	@$(OPERATOR)/python -m celeriac_operator.generate
	@$(LOCALCLUSTER) programs helm
	@tools/render-manifests

manifests: ## rewrite what follows from the chart: deploy/, its README, golden files and copy of the CRD
	@tools/render-manifests

verify: $(VENV)/operator.stamp ## fail if a generated file is out of date
	@$(OPERATOR)/python -m celeriac_operator.generate --check
	@$(LOCALCLUSTER) programs helm
	@tools/render-manifests --check

golden: $(VENV)/operator.stamp ## rewrite the golden files from the code; look at the difference before you commit it
	@REWRITE_GOLDEN=1 PYTHONPATH=tools $(OPERATOR)/python -m pytest -q tests/unit/operator/desired -k golden
	@$(LOCALCLUSTER) programs helm
	@tools/render-manifests

unit: $(VENV)/operator.stamp $(VENV)/worker.stamp ## unit tests of both programs and of the tools
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target unit-operator unit-worker

.PHONY: unit-operator unit-worker
unit-operator: $(VENV)/operator.stamp
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q tests/unit/operator tests/unit/tools
unit-worker: $(VENV)/worker.stamp
	@$(WORKER)/python -m pytest -q tests/unit/worker

integration: $(VENV)/operator.stamp $(VENV)/worker.stamp ## against a real redis-server, RabbitMQ and kube-apiserver
	@tools/ensure-packages redis-server rabbitmq-server gcc libc6-dev prometheus # the compiler: for a clock that can be stepped; promtool
	@$(LOCALCLUSTER) programs # the first time takes minutes: with progress, and not inside a test's time limit
	@$(LOCALCLUSTER) images celeriac-worker >/dev/null
	@$(WORKER)/python -m pytest -q --timeout=180 -n 6 --dist loadgroup -m "not alone" tests/integration/worker tests/chaos/worker
	@$(WORKER)/python -m pytest -q --timeout=180 -m alone tests/integration/worker # these look at a clock
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q --timeout=180 -n 4 --dist loadfile tests/integration/operator
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q --timeout=180 tests/integration/tools

e2e: $(VENV)/operator.stamp ## the promises, on a real cluster with the built images
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q -n 3 --dist loadfile -m "not alone" tests/e2e
	@PYTHONPATH=tools $(OPERATOR)/python -m pytest -q -m alone tests/e2e # these look at a clock, or replace the operator

test: check integration test-redis-py test-oldest e2e ## everything that CI runs; installs what it needs

.PHONY: test-redis-py test-oldest test-matrix test-applications
test-redis-py: $(VENV)/worker.stamp ## redis-py's own tests of its lock, with celeriac.Lock
	@tools/ensure-packages redis-server
	@$(WORKER)/python -m tests.integration.worker.locks.redis_py --pip $(VENV)/uv/bin/python
test-oldest: $(UV) ## the oldest versions that the worker library supports, short form
	@tools/ensure-packages redis-server
	@PYTHONPATH=tools $(PYTHON) -m matrix --corner oldest --short
test-matrix: $(UV) ## the worker's tests with every set of versions on this machine (ARGS="--corner newest")
	@tools/ensure-packages redis-server
	@PYTHONPATH=tools $(PYTHON) -m matrix $(ARGS)
test-applications: $(VENV)/worker.stamp ## applications that exist, on stock Celery and on ours (ARGS="--only director --json")
	@tools/ensure-packages redis-server postgresql
	@PYTHONPATH=. $(WORKER)/python -m tests.applications $(ARGS)

##@ Autoscaling
.PHONY: simulate
simulate: $(VENV)/operator.stamp ## simulate what an autoscaling target would do with a load (ARGS=--help)
	@$(OPERATOR)/python -m celeriac_operator.autoscaling.simulation $(ARGS)

.PHONY: burst-picture
burst-picture: $(VENV)/operator.stamp ## run the demo's burst and draw it beside the simulated one
	@PYTHONPATH=tools $(OPERATOR)/python tests/bench/burst_picture.py

##@ Faults
.PHONY: chaos-operator
chaos-operator: $(VENV)/operator.stamp ## kill the operator between any two API calls, and other faults (ARGS=--help); a part is in `make test`
	@$(LOCALCLUSTER) programs
	@PYTHONPATH=tools $(OPERATOR)/python -m tests.chaos.operator $(ARGS)
.PHONY: chaos-worker
chaos-worker: $(VENV)/worker.stamp ## thousands of tasks, failovers and a lock under faults (ARGS="--seed 7 --minutes 10 --json")
	@tools/ensure-packages redis-server gcc libc6-dev
	@$(WORKER)/python -m tests.chaos.worker $(ARGS)

.PHONY: mutants
mutants: $(VENV)/operator.stamp $(VENV)/worker.stamp ## put each deliberate bug into a copy of the tree: a test must notice it (ARGS="--only lease --json")
	@tools/ensure-packages redis-server
	@PYTHONPATH=tools $(OPERATOR)/python -m mutants $(ARGS)

.PHONY: fuzz-messages
fuzz-messages: $(VENV)/worker.stamp ## a message of every shape on every pool (TEST_POOLS="solo gevent" TEST_SEED=7 TEST_SHAPES=1000)
	@tools/ensure-packages redis-server
	@TEST_SHAPES=$${TEST_SHAPES:-100000} $(WORKER)/python -m pytest -q tests/integration/worker/delivery/test_messages.py

##@ Benchmarks (each runs ours and the peer in turn; the last line is one JSON object)
.PHONY: bench bench-operator
bench: $(VENV)/worker.stamp ## all benchmarks of the worker library, into docs/project/benchmarks.md (ARGS="--only throughput" renews one)
	@tools/ensure-packages redis-server
	@$(WORKER)/python tests/bench/all.py $(ARGS)
bench-operator: $(VENV)/operator.stamp ## all benchmarks of the operator, into the same page
	@$(LOCALCLUSTER) programs
	@PYTHONPATH=.:tools $(OPERATOR)/python tests/bench/all.py --section operator $(ARGS)

#: bench-throughput: tasks per second and memory, against bare Celery
#: bench-wakeup: milliseconds until an idle worker starts a task, against Celery's BRPOP
#: bench-lock-contended: a line of waiters, against redis-py's lock
#: bench-lock-uncontended: a lock that nobody else wants, against redis-py's lock
#: bench-kill-loss: tasks lost under SIGKILL, against Celery with late acknowledgement
#: bench-scale-down-loss: tasks lost and run twice while a pool shrinks and grows, against Celery
#: bench-redelivery: seconds from a worker's death to the next start of its task
#: bench-debounce: milliseconds that a debounced task is late, against the usual pattern
#: bench-dedupe: calls doubled or lost, against celery-once and celery-singleton
#: bench-probe: CPU time of one liveness check, against `celery inspect ping`
#: bench-observability: tasks per second with logs, Sentry, metrics and probes, against none of them
#: bench-operator-writes: API writes beyond the needed ones, against a plain kopf operator
#: bench-operator-scale: 500, 2,000 and 5,000 pools: pools per second, delay of a change, memory
#: bench-operator-restart: writes after a restart with 2,000 unchanged pools
#: bench-scale-latency: from a message to its workers, 1,000 pools, against KEDA (built once, 15 minutes)
#: bench-scale-cost: CPU and Redis commands of 1,000 idle pools with autoscaling
#: bench-slo: a simulated day: tasks that start in time, and worker hours, against KEDA and the HPA
OPERATOR_BENCHES := operator-writes operator-scale operator-restart scale-latency scale-cost slo
bench-%: $(VENV)/operator.stamp $(VENV)/worker.stamp
	@$(if $(filter $*,$(OPERATOR_BENCHES)),$(LOCALCLUSTER) programs,tools/ensure-packages redis-server)
	@PYTHONPATH=.:tools $(if $(filter $*,$(OPERATOR_BENCHES)),$(OPERATOR),$(WORKER))/python tests/bench/$(subst -,_,$*).py $(ARGS)
