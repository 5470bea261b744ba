# What a person types. Every target installs what it needs; tools are cached by version outside the clone.
SHELL := /bin/bash
PORT ?= 8787

.PHONY: help dev build test test-native test-worker test-clients lint bench deploy fmt clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

dev: ## run the gateway on this machine (PORT=8787)
	@PORT=$(PORT) bash scripts/dev.sh

build: ## build the Worker into build/
	@bash scripts/build.sh

test: lint test-native test-worker test-clients ## everything
	@echo "all tests passed"

lint: ## formatting and clippy, native and wasm32
	@bash scripts/lint.sh

test-native: ## pure parts and flows, no runtime
	@bash scripts/test-native.sh

test-worker: ## the built Worker in real workerd with D1, Queue and R2
	@bash scripts/test-worker.sh

test-clients: ## the real SDKs against the built Worker
	@bash tests/clients/run.sh

bench: ## the hot path against two JavaScript workers, as ratios
	@bash scripts/bench.sh

deploy: ## create what is missing in your Cloudflare account, migrate, deploy
	@bash scripts/deploy.sh

fmt: ## format
	@cargo fmt

clean: ## remove what was built in this clone
	@rm -rf target build build-test node_modules tests/clients/node_modules tests/clients/.venv .wrangler
