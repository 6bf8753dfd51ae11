# Every target sets up what it needs first; set-up is done once and again when its inputs change.
SHELL := /bin/bash
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PHALANX := .venv/bin/phalanx
PYTEST := .venv/bin/python -Im pytest
# In the guest every import costs: no plugin that these tests can do without.
IPVS_PYTEST := env CI=$(CI) PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(PYTEST) -p no:cacheprovider \
	-p pytest_asyncio.plugin -p pytest_timeout

.PHONY: help setup setup-bench demo test test-ipvs unit check unit netns e2e bench lab clean
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.setup-stamp: scripts/setup pyproject.toml scripts/constraints.txt scripts/dcos-cli.txt
	$(SUDO) scripts/setup
	@touch $@

setup: .setup-stamp ## Install OS packages and the virtual environment in .venv

setup-bench: .setup-stamp ## Unpack what benchmarks need into .bench: nginx, wrk, HAProxy, iperf3, dnsperf, dnsmasq, unbound
	$(SUDO) scripts/setup-bench

demo: .setup-stamp ## Run the main job and print what it proved; KEEP=1 leaves the cluster up
	$(SUDO) $(PHALANX) lab demo --name demo $(if $(KEEP),--keep)

test: .setup-stamp ## Run the checks and every test: unit, namespaces, end to end, the guest; two parts at a time
	@$(if $(SUDO),sudo -v,:) # the parts have no terminal to ask on
	@scripts/parts netns e2e test-ipvs unit check

test-ipvs: .setup-stamp ## Run the load balancer's tests with IPVS, under Debian's kernel in a virtual machine
	$(SUDO) scripts/guest $(IPVS_PYTEST) tests/guest tests/netns/lb/test_lb_contract.py \
		tests/netns/lb/test_lb_balance.py tests/netns/isolation/test_isolation_vips.py -k "ipvs or guest"

check: .setup-stamp ## Lint, types, import rules, spelling
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/codespell

unit: .setup-stamp ## Run the unit tests and the repository lint
	$(PYTEST) tests/unit tests/lint

netns: .setup-stamp ## Run the network-namespace tests, with those of IPVS where the kernel has it
	$(SUDO) $(PYTEST) tests/netns tests/guest

e2e: .setup-stamp ## Run the end-to-end tests with real daemons
	$(SUDO) $(PYTEST) tests/e2e

bench: .setup-stamp ## Run one claim's script, NAME=x; without NAME, list them; JSON=1 for JSON
	@$(SUDO) .venv/bin/python bench $(NAME) $(if $(JSON),--json)

lab: .setup-stamp ## Start a cluster on this machine
	$(SUDO) $(PHALANX) lab up

clean: ## Remove the virtual environment and caches
	rm -rf .venv .dcos-cli .guest .bench .setup-stamp .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info src/*.egg-info
