# All commands of the project. Each one installs what it needs and may be run again. If it cannot work, it fails with one line.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Puts Rust and Go in the needed versions on PATH (scripts/setup.sh installs them).
WITH := . scripts/env.sh;
# Builds optimised programs. It is always --workspace: another set of packages could have other features, and everything would be built again.
BUILD = echo "building (some minutes the first time)"; $(WITH) cargo build --release --workspace --bin tandem
CONTROLPLANE := tests/controlplane/bin/controlplane
BENCHES := bench-change bench-load bench-memory bench-latency bench-api bench-flows bench-conntrack

.PHONY: help setup build demo test unit lint fuzz fmt cluster cluster-down controlplane bench $(BENCHES) \
	setup-rust setup-net setup-go setup-lint parity race orders field hostile cluster-ways api-faults heap-profile

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: ## install what is missing: nftables and friends, Rust, Go
	@scripts/setup.sh rust net go lint

setup-rust:
	@scripts/setup.sh rust
setup-net:
	@scripts/setup.sh rust net
setup-go:
	@scripts/setup.sh go
setup-lint:
	@scripts/setup.sh rust lint

build: setup-rust ## build the tandem command: target/release/tandem
	@$(BUILD)

demo: setup-net ## a dual-stack Service proxy at work on real packets, in namespaces; under a minute after the build
	@$(BUILD) --bin demo
	@$(WITH) $$RELEASE/demo

test: setup-net controlplane ## everything, also against a real kube-apiserver; ends with: N passed, N failed
	@$(WITH) scripts/test.sh

parity: setup-net controlplane ## every flow of tests/data/parity through the real kube-proxy and through Tandem, side by side
	@$(BUILD) --bin parity
	@$(WITH) $$RELEASE/parity

race: setup-net controlplane ## a million connections to shrinking lists, with Tandem and with kube-proxy; RACE_CONNECTIONS=1000000
	@$(BUILD) --bin race
	@$(WITH) $$RELEASE/race

orders: setup-net controlplane ## Tandem and kube-proxy start and end on one node in every order; about 4 minutes; ORDERS_ONLY=iptables
	@$(BUILD) --bin orders
	@$(WITH) $$RELEASE/orders

field: setup-net controlplane ## every case of docs/field.md, one after the other
	@$(BUILD) --bin field
	@$(WITH) $$RELEASE/field

hostile: setup-net ## the largest objects, silent connections, a lock that another program holds; HOSTILE_SERVICES=10000
	@$(BUILD) --bin hostile
	@$(WITH) $$RELEASE/hostile

cluster-ways: setup-net controlplane ## the tests of the cluster in all 12 ways of reading from the API server; about an hour; CLUSTER_WAYS=cache,json,http1
	@$(WITH) scripts/cluster_ways.sh

api-faults: setup-net controlplane ## a proxy with faults before the real API server, at every byte; about 20 minutes; API_FAULT_EVERY=1
	@$(BUILD) --bin api-faults
	@$(WITH) $$RELEASE/api-faults

unit: setup-rust ## pure tests: no root, no network; under two minutes once built
	@$(WITH) cargo test --workspace --lib --bins --test arrows --test promises --test input

lint: setup-lint setup-go ## formatting, clippy, licences and sources of dependencies, Go vet
	@$(WITH) scripts/lint.sh

# Put inputs that fail into controller/tests/data/fuzz/TARGET/, where an ordinary test replays them.
FUZZ_TARGETS := manifest object watch_lines watch_frames list_body config
FUZZ_SECONDS ?= 60
fuzz: ## give the parsers random bytes; FUZZ_SECONDS=60 for each of them
	@scripts/setup.sh rust fuzz
	@$(WITH) for target in $(FUZZ_TARGETS); do \
		mkdir -p target/fuzz/$$target target/fuzz/finds/$$target; \
		echo "fuzz: $$target, $(FUZZ_SECONDS) s"; \
		CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-$$PWD/target}/fuzz-build cargo fuzz run --sanitizer none $$target \
			target/fuzz/$$target fuzz/seeds/$$target controller/tests/data/fuzz/$$target -- -max_total_time=$(FUZZ_SECONDS) \
			-rss_limit_mb=512 -timeout=10 -print_final_stats=1 -artifact_prefix=target/fuzz/finds/$$target/ || exit 1; \
	done

fmt: setup-lint ## format the code
	@$(WITH) cargo fmt --all
	@$(WITH) if command -v gofmt >/dev/null; then gofmt -w tests/controlplane/*.go; fi

cluster: setup-net controlplane ## start a real control plane with three nodes, and say how to use it
	@$(BUILD) --bin cluster --bin whoami
	@$(WITH) $$RELEASE/cluster up

cluster-down: setup-net ## remove what `make cluster` started
	@$(WITH) [ -x $$RELEASE/cluster ] || { $(BUILD) --bin cluster; }; $$RELEASE/cluster down

# One binary with etcd, kube-apiserver, kube-controller-manager, kube-proxy and kubectl.
controlplane: setup-go
	@$(MAKE) $(CONTROLPLANE)

$(CONTROLPLANE): tests/controlplane/main.go tests/controlplane/go.mod tests/controlplane/go.sum
	@echo "building the Kubernetes control plane for tests (about 7 minutes on 2 cores, once)"
	@$(WITH) cd tests/controlplane && go build -ldflags='-s -w' -o bin/controlplane .

bench: $(BENCHES) ## every figure, one after the other; SERVICES=10000 for the large cluster

bench-change: setup-net ## event decoded -> kernel acknowledges, at 10,000 and 50,000 Services
bench-load: setup-net ## first load of large clusters, beside nft
bench-memory: setup-net controlplane ## memory at 10,000 Services x 10 endpoints and at 50,000 x 3, also the kernel's
bench-latency: setup-net controlplane ## API server -> kernel, beside the real kube-proxy; SERVICES=1000
bench-api: setup-net controlplane ## bytes, requests, connections and start, beside the real kube-proxy; 80 minutes, IDLE_MINUTES=60
bench-flows: setup-net ## new connections a second through a ClusterIP, beside direct ones
bench-conntrack: setup-net ## UDP flows: a restart among 10,000 entries, and one endpoint that goes
$(BENCHES):
	@$(BUILD) --bin $@
	@$(WITH) $$RELEASE/$@

heap-profile: setup-net controlplane ## where the agent's memory is, by Services, slices, tables and names; SHAPE=10k_x10
	@$(BUILD) --bin bench-memory
	@$(WITH) scripts/heap_profile.sh
