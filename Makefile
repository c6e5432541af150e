# Everything a newcomer types. Needs nothing but Python 3.11 or newer and make.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.from-lock
BROWSER := .venv/.browser

.PHONY: help setup run test browser chaos failover soak bench check fix lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv from the lock file

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Ronin needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "This Python has no venv module; on Debian: apt install python3-venv"; exit 1; }
	@echo "Installing the locked packages into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@touch $@

run: setup ## Start the cluster on http://127.0.0.1:8000 (Ctrl-C ends it)
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/honcho start

test: setup $(BROWSER) ## Run every test on all cores; coverage goes to htmlcov/index.html
	@$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=html --cov-report=term:skip-covered $(ARGS)

$(BROWSER): $(STAMP)
	@$(BIN)/python -m tests.browser.chromium && touch $@

browser: setup ## Install a Chromium for tests/browser if there is none
	@$(BIN)/python -m tests.browser.chromium && touch $(BROWSER)

chaos: setup ## Break everything for a while: make chaos MINUTES=30 [SEED=…] [MUTATE=token]
	@$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),30) $(SEED:%=--seed %) $(MUTATE:%=--mutate %)

failover: setup ## Lose the primary under load (needs Patroni and etcd): make failover [PROMOTIONS=20]
	@$(BIN)/python -m tests.failover --promotions $(or $(PROMOTIONS),20) $(SEED:%=--seed %)

soak: setup ## Work under a steady load, and see whether anything grows: make soak HOURS=1
	@$(BIN)/python -m benchmarks.soak --hours $(or $(HOURS),1) $(ARGS)

bench: setup ## Measure everything, about an hour: make bench [ONLY=balance,drain] [QUICK=1]
	@$(BIN)/python benchmarks/all.py $(ONLY:%=--only %) $(if $(QUICK),--quick)

check: setup ## Lint, format, types, import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo

fix: setup ## Mend what the linter can mend
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: ## Renew requirements.lock from pyproject.toml (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev \
		--no-emit-index-url --custom-compile-command "make lock" pyproject.toml -o requirements.lock
