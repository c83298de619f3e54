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
TOOLS_BIN := tests/tools/bin
CONTAINERD := containerd containerd-shim-runc-v2 ctr
BENCHES := bench-change bench-load bench-memory bench-latency bench-api bench-flows bench-conntrack bench-sockets bench-xdp

.PHONY: help setup build demo test unit lint fuzz fmt cluster cluster-down controlplane tools bench $(BENCHES) \
	setup-rust setup-net setup-kubelets setup-go setup-lint setup-strace helm chart manifests parity xdp-switch differential race orders deploy-test rights field hostile cluster-ways api-faults \
	heap-profile sockets xdp-kernel xdp-model xdp-packets xdp-race setup-image image image-again image-test push arm64

help: ## list these commands
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | \
		while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: ## install what is missing: nftables and friends, Rust, also for eBPF, Go
	@scripts/setup.sh rust net kubelets go lint xdp

# Whatever builds the agent builds the programs in the kernel, too.
setup-rust:
	@scripts/setup.sh rust xdp
setup-net:
	@scripts/setup.sh rust net xdp
setup-kubelets: setup-net
	@scripts/setup.sh kubelets
setup-go:
	@scripts/setup.sh go
setup-lint:
	@scripts/setup.sh rust xdp lint

setup-strace:
	@scripts/setup.sh strace

setup-image: setup-rust
	@scripts/setup.sh $(addprefix image-,$(ARCHS))

build: setup-rust ## build the tandem command: target/release/tandem
	@$(BUILD)

demo: setup-net ## a dual-stack Service proxy at work on real packets, in namespaces; under a minute after the build
	@$(BUILD) --bin demo
	@$(WITH) $$RELEASE/demo

test: setup-kubelets setup-strace controlplane tools ## everything, also against a real kube-apiserver; ends with: N passed, N failed
	@$(WITH) scripts/test.sh

parity: export DATA_PLANE := $(DATA_PLANE)
parity: setup-net controlplane ## every flow of tests/data/parity through the real kube-proxy and through Tandem, side by side; DATA_PLANE=xdp
	@$(BUILD) --bin parity
	@$(WITH) $$RELEASE/parity

# The first build has maps of another layout. It is what an upgrade leads to, and back.
xdp-switch: setup-net setup-strace ## the agent and both data planes are killed, exchanged and refused, under requests without a pause; 8 minutes
	@$(BUILD) --features tandem/other-layout
	@$(WITH) cp $$RELEASE/tandem $$RELEASE/tandem-other-layout
	@$(BUILD) --bin xdp-switch
	@$(WITH) $$RELEASE/xdp-switch

race: setup-net controlplane ## a million connections to shrinking lists, with Tandem and with kube-proxy; RACE_CONNECTIONS=1000000
	@$(BUILD) --bin race
	@$(WITH) $$RELEASE/race

differential: setup-net ## random Services, histories and clients with nftables alone and with XDP: the same answers, sources and shares; DIFFERENTIAL_SEED=1
	@$(BUILD) --bin differential
	@$(WITH) $$RELEASE/differential

orders: setup-net controlplane ## Tandem and kube-proxy start and end on one node in every order; about 4 minutes; ORDERS_ONLY=iptables
	@$(BUILD) --bin orders
	@$(WITH) $$RELEASE/orders

deploy-test: setup-kubelets controlplane tools ## the whole life of an installation on three real kubelets, under traffic; 20 minutes; DEPLOY_SHORT=yes, DEPLOY_BAD_INPUT=yes
	@$(MAKE) image ARCHS=amd64
	@$(BUILD) --bin deploy-test --bin pause --bin whoami
	@$(WITH) TANDEM_IMAGE=$$PWD/target/image/oci $$RELEASE/deploy-test

rights: setup-net ## every feature with the capabilities of the chart, and with each of them taken away; a minute
	@$(BUILD) --bin rights
	@$(WITH) $$RELEASE/rights

chart: setup-net controlplane helm ## the chart: what it renders and refuses, whether Tandem reads it, and what a real API server says; 2 minutes
	@$(BUILD) --bin chart
	@$(WITH) $$RELEASE/chart

manifests: setup-net helm ## write what is made from the chart: deploy/manifests, the examples of its tests, its table of values
	@$(BUILD) --bin chart
	@$(WITH) $$RELEASE/chart keep

field: setup-net controlplane ## every case of docs/field.md, one after the other
	@$(BUILD) --bin field
	@$(WITH) $$RELEASE/field

sockets: setup-net ## real sockets ask Services from nodes, pods and containers: who answers, what they are told, which plane took them
	@$(BUILD) --bin sockets
	@$(WITH) $$RELEASE/sockets

xdp-kernel: export EVERY := $(EVERY)
xdp-kernel: setup-net ## make sockets on Debian 12's 6.1 kernel, in an emulated machine; half an hour to an hour, EVERY=8
	@scripts/setup.sh xdp-kernel
	@$(BUILD) --bin sockets
	@$(WITH) cargo build --quiet --release --package tandem-xdp --features kernel,samples --bin xdp-packets
	@$(WITH) scripts/xdp_kernel.sh

xdp-model: setup-rust ## a million single writes to eBPF maps that are memory; after each, all readers must be right; MODEL_WRITES=1000000
	@echo "building (a minute the first time)"
	@$(WITH) cargo run --quiet --release --package tandem-xdp --features samples --bin xdp-model

xdp-packets: setup-net ## single packets in the kernel's programs: what becomes of each, and what stands in the maps afterwards
	@echo "building (some minutes the first time)"
	@$(WITH) cargo run --quiet --release --package tandem-xdp --features kernel,samples --bin xdp-packets

xdp-race: export RACE_SECONDS := $(RACE_SECONDS)
xdp-race: setup-net ## packets of the same records from several processors at once: none may be of two flows; a minute, RACE_SECONDS=60
	@echo "building (some minutes the first time)"
	@$(WITH) cargo run --quiet --release --package tandem-xdp --features kernel,samples --bin xdp-race

hostile: setup-net ## the largest objects, silent connections, a lock that another program holds; HOSTILE_SERVICES=10000
	@$(BUILD) --bin hostile
	@$(WITH) $$RELEASE/hostile

cluster-ways: setup-net controlplane ## the tests of the cluster in all 12 ways of reading from the API server; about an hour; CLUSTER_WAYS=cache,json,http1
	@$(WITH) scripts/cluster_ways.sh

api-faults: setup-net controlplane ## a proxy with faults before the real API server, at every byte; about 20 minutes; API_FAULT_EVERY=1
	@$(BUILD) --bin api-faults
	@$(WITH) $$RELEASE/api-faults

ARCHS ?= amd64 arm64
image: export ARCHS := $(ARCHS)
image: setup-image ## build the container image, an OCI layout: target/image/oci; ARCHS=amd64
	@$(WITH) scripts/image.sh

image-again: export ARCHS := $(ARCHS)
image-again: setup-image ## build the image a second time, in another folder, and compare the digests
	@$(WITH) scripts/image_again.sh

image-test: setup-net image ## run the image's program with the files of the image alone
	@$(WITH) cargo build --quiet --workspace --bin image-answers
	@$(WITH) $${CARGO_TARGET_DIR:-target}/debug/image-answers target/image/oci

push: export INSECURE := $(INSECURE)
push: ## push the image to a registry: TO=registry.example.com/tandem:0.1.0; INSECURE=yes without TLS
	@scripts/setup.sh push
	@scripts/push.sh '$(TO)'

arm64: ## the parsers' and planners' tests, and the image's program on a real kernel, on emulated aarch64
	@scripts/setup.sh rust image-arm64 arm64
	@$(WITH) scripts/arm64.sh

unit: setup-rust ## pure tests: no root, no network; under two minutes once built
	@$(WITH) cargo test --workspace --lib --bins --test arrows --test promises --test input

lint: setup-lint setup-go ## formatting, clippy, licences and sources of dependencies, Go vet
	@$(WITH) scripts/lint.sh

# Put inputs that fail into controller/tests/data/fuzz/TARGET/ (of packets: xdp/packet/tests/data/fuzz/packets/), where an ordinary test
# replays them.
FUZZ_TARGETS := manifest object watch_lines watch_frames list_body config packets
FUZZ_SECONDS ?= 60
fuzz: ## give the parsers and the packet code random bytes; FUZZ_SECONDS=60 for each of them
	@scripts/setup.sh rust fuzz
	@$(WITH) for target in $(FUZZ_TARGETS); do \
		mkdir -p target/fuzz/$$target target/fuzz/finds/$$target; \
		echo "fuzz: $$target, $(FUZZ_SECONDS) s"; \
		CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-$$PWD/target}/fuzz-build cargo fuzz run --sanitizer none $$target \
			target/fuzz/$$target fuzz/seeds/$$target $$(ls -d {controller,xdp/packet}/tests/data/fuzz/$$target 2>/dev/null || true) -- -max_total_time=$(FUZZ_SECONDS) \
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

# One binary with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubeadm and kubectl.
controlplane: setup-go
	@$(MAKE) $(CONTROLPLANE)

$(CONTROLPLANE): tests/controlplane/main.go tests/controlplane/go.mod tests/controlplane/go.sum
	@echo "building the Kubernetes control plane for tests (about 7 minutes on 2 cores, once)"
	@$(WITH) cd tests/controlplane && version=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes) && \
		go build -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$$version" -o bin/controlplane .

# What the tests of real kubelets and of the chart need: pinned in tests/tools/go.mod.
tools: setup-go ## build helm, crane and containerd into tests/tools/bin; about 5 minutes on 2 cores, once
	@$(MAKE) $(addprefix $(TOOLS_BIN)/,helm crane $(CONTAINERD))

helm: setup-go
	@$(MAKE) $(TOOLS_BIN)/helm

TOOLS_FILES := tests/tools/go.mod tests/tools/go.sum
$(TOOLS_BIN)/helm: PACKAGE := helm.sh/helm/v4
$(TOOLS_BIN)/helm: FLAGS = -X helm.sh/helm/v4/internal/version.version=$$version
$(TOOLS_BIN)/crane: PACKAGE := github.com/google/go-containerregistry
$(TOOLS_BIN)/crane: FLAGS = -X $(PACKAGE)/cmd/crane/cmd.Version=$$version
$(addprefix $(TOOLS_BIN)/,$(CONTAINERD)): PACKAGE := github.com/containerd/containerd/v2
$(addprefix $(TOOLS_BIN)/,$(CONTAINERD)): FLAGS = -X $(PACKAGE)/version.Version=$$version
$(TOOLS_BIN)/%: $(TOOLS_FILES)
	@echo "building $* (once)"
	@$(WITH) cd tests/tools && version=$$(go list -m -f '{{.Version}}' $(PACKAGE)) && \
		go build -tags 'no_btrfs no_zfs no_devmapper' -ldflags="-s -w $(FLAGS)" -o bin/ $(PACKAGE)/cmd/$*

bench: $(BENCHES) ## every figure, one after the other; SERVICES=10000 for the large cluster

bench-change: setup-net ## event decoded -> kernel acknowledges, at 10,000 and 50,000 Services; DATA_PLANE=xdp with both data planes
bench-load: setup-net ## first load of large clusters, beside nft; DATA_PLANE=xdp
bench-memory: setup-net controlplane ## memory at 10,000 Services x 10 endpoints and at 50,000 x 3, also the kernel's; DATA_PLANE=xdp
bench-latency: setup-net controlplane ## API server -> kernel, beside the real kube-proxy; SERVICES=1000
bench-api: setup-net controlplane ## bytes, requests, connections and start, beside the real kube-proxy; 80 minutes, IDLE_MINUTES=60
bench-flows: setup-net ## new connections a second through a ClusterIP, beside direct ones
bench-conntrack: setup-net ## UDP flows: a restart among 10,000 entries, and one endpoint that goes
bench-xdp: setup-net ## nanoseconds a packet in XDP, with 1, 5,000 and 100,000 flows; packets and connections a second; changes; memory; ONLY=packets, requests or changes
bench-sockets: setup-net ## socket load balancing beside nftables and beside no proxy; 6 minutes, ONLY=maps, others or traffic
bench-xdp:
	@$(BUILD) --bin bench-xdp --bin bench-change --bin bench-sockets
	@$(WITH) [ "$${ONLY:-}" = changes ] || $$RELEASE/bench-xdp
	@$(WITH) case "$${ONLY:-changes}" in changes) \
		SIZE=10k DATA_PLANE=xdp $$RELEASE/bench-change; \
		ONLY=maps $$RELEASE/bench-sockets ;; \
	esac
$(filter-out bench-xdp,$(BENCHES)):
	@$(BUILD) --bin $@
	@$(WITH) $$RELEASE/$@

heap-profile: setup-net controlplane ## where the agent's memory is, by Services, slices, tables and names; SHAPE=10k_x10
	@$(BUILD) --bin bench-memory
	@$(WITH) scripts/heap_profile.sh
