# Every target is a name for steps of .ci/run, which holds the commands.

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-databases test-cluster race lint fuzz cover mutants ci prove tidy vuln bench bench-short

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: ## Run examples/quickstart, as README.md does.
	@bash .ci/run quickstart

test: ## Run the tests.
	@bash .ci/run test

test-databases: ## Run the tests on PostgreSQL and MariaDB, which this installs and starts.
	@bash .ci/run databases

test-cluster: ## Run the tests on clusters of MariaDB and PostgreSQL, which this installs and starts.
	@bash .ci/run cluster

race: ## Run the tests under the race detector, in random order.
	@bash .ci/run race

lint: ## Check the format and run go vet and golangci-lint.
	@bash .ci/run fmt vet lint

fuzz: ## Run every fuzz target, a million executions together, or each for FUZZTIME: make fuzz FUZZTIME=1m.
	@bash .ci/run fuzz

cover: ## Check that the tests of the root package cover each of its statements.
	@bash .ci/run cover

mutants: ## Find changes of the rules and the engine that no test notices; takes an hour or more.
	@bash .ci/run mutants

bench: ## Measure everything, for about two hours, on servers that this installs, and write docs/benchmarks.
	@bash .ci/run bench

bench-short: ## Measure the most telling rows in less than 50 s; JSON=1 prints one object a line.
	@JSON=$(JSON) bash .ci/run bench-short

ci: ## Run every check that a change has to pass; as root, this installs database servers (Debian 12).
	@bash .ci/run

prove: ## Run once, for hours, what CI does briefly, on every store or on some: make prove STORES='memory sqlite'.
	@bash .ci/run prove

tidy: ## Format the code, and tidy go.mod and go.sum of every module.
	@bash .ci/run tidy-write

vuln: ## Look for known vulnerabilities in what the code calls.
	@bash .ci/run vuln
