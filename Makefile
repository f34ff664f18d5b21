# The interpreter that makes .venv: make PYTHON=python3.13 run
PYTHON ?= python3
# More arguments for pytest: make test ARGS="-k orders"
ARGS ?=
# For how long to fuzz: make fuzz MINUTES=20
MINUTES ?= 5
# In parallel, see tests/parallel.py; all tests of a module go to one worker, because they may share processes.
PYTEST := python -m pytest -n auto --dist loadfile --no-loadscope-reorder

VENV := .venv/bin/python
LOCKS := requirements.txt requirements-dev.txt requirements-check.txt

.DEFAULT_GOAL := help
.PHONY: help setup setup-check run test test-next coverage lint lint-ruff lint-format lint-mypy lint-imports lint-migrations lint-openapi shell clean chaos chaos-mutants chaos-peers bench fuzz audit

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r target text; do printf 'make %-13s %s\n' "$$target" "$$text"; done

setup: ## Make .venv with the locked dependencies (the other targets do it when needed)
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3 run"; exit 1; }
	@"$(PYTHON)" devstack/bootstrap.py

setup-check: setup
	@"$(PYTHON)" devstack/bootstrap.py check

run: setup ## Start everything, play the main job, and serve on http://localhost:8000 (PORT=8001 make run)
	@$(VENV) -m devstack run

test: setup ## Run the tests, in parallel, on servers and data of their own (ARGS="-k orders" for pytest)
	@$(VENV) -m devstack test -- $(PYTEST) $(ARGS)

coverage: setup-check ## Run the tests and list the lines that they do not reach
	@$(VENV) -m devstack test -- $(PYTEST) --cov --cov-report=term $(ARGS)

fuzz: setup-check ## Send all that the schema allows and forbids, with other seeds (MINUTES=20 FUZZ_SEED=1)
	@FUZZ_MINUTES=$(MINUTES) $(VENV) -m devstack test -- python -m pytest -n 0 tests/api/test_schema_fuzz.py $(ARGS)

test-next: ## Run the tests on the next Django, where it can be had (NEXT_PYTHON=python3.13 ARGS="-k orders")
	@"$(PYTHON)" devstack/next_django.py $(ARGS)

chaos: setup ## Break everything under load and count every job (ONLY=worker-killed,poison SEED=1 BROKER=rabbitmq)
	@$(VENV) -m tests.chaos

chaos-mutants: setup ## Break the product in one place after the other, and see that chaos notices (ONLY=no-gate)
	@$(VENV) -m tests.chaos.mutants

chaos-peers: setup ## Do the same to Tenantry's peers, in environments of their own (ONLY=poison PEERS=plain_celery)
	@$(VENV) -m tests.peers

bench: setup ## Measure everything beside its peers, in 30 minutes (ONLY=plain-task-tuned,durable-drain)
	@$(VENV) -m bench

lint: lint-ruff lint-format lint-mypy lint-imports lint-migrations lint-openapi ## Check style, types, imports, migrations and the OpenAPI schema

# They import the settings, which insist on a strong key in production.
lint-mypy lint-openapi: export DEBUG = 1

lint-ruff: setup-check
	$(VENV) -m ruff check .

lint-format: setup-check
	$(VENV) -m ruff format --check .

lint-mypy: setup-check
	$(VENV) -m mypy .

lint-imports: setup-check
	PATH="$$PWD/.venv/bin:$$PATH" lint-imports

lint-migrations: setup
	$(VENV) -m devstack test -- python manage.py makemigrations --check --dry-run

lint-openapi: setup
	$(VENV) manage.py spectacular --urlconf config.api --validate --fail-on-warn --file /dev/null

audit: setup-check ## Look the locked dependencies up among known vulnerabilities (needs the network)
	@$(VENV) -m pip_audit --strict --disable-pip --require-hashes --progress-spinner=off $(LOCKS:%=--requirement=%) || { echo "make audit: not clean, or not all could be looked up (see above): that takes the network."; exit 1; }

shell: setup ## Open a Python shell on the data of `make run`
	@$(VENV) -m devstack exec -- python manage.py shell

clean: ## Remove .venv, .venv-next, .peers and the data of `make run`
	@test ! -x $(VENV) || $(VENV) -m devstack clean
	@rm -rf .venv .venv-next .devstack .peers
