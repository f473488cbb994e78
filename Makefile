# Everything that is done with Atoll, from a fresh Debian 12 or 13 with Rust.
# `make help` lists the targets; image-build and qemu-test do the work.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
TARGET := x86_64-unknown-linux-gnu
BUILD := target/$(TARGET)/ci
export RUST_BACKTRACE := 0

# Each part of the tests, with its time in the closing summary.
PART = @qemu-test/part
# Every kubectl to test with, old and new.
KUBECTLS = env ATOLL_KUBECTLS="$$($(BUILD)/image-build kubectls)"
# And Python's Kubernetes client, and upstream's test objects.
CLIENTS = $(KUBECTLS) ATOLL_PYTHON="$$($(BUILD)/image-build python)" \
	ATOLL_OBJECTS="$$($(BUILD)/image-build objects)"
# For what boots.
SUITE = $(KUBECTLS) ATOLL_IMAGE=$(CURDIR)/out/ci
# Crates whose fuzz tests count by FUZZ_FACTOR or PROPTEST_CASES.
FUZZED := api apiserver expressions fabric guest-init guest-protocol image node store streams supervisor \
	virtio vmm

.PHONY: help run console stop test test-fast soak bench bench-api image setup clean

help: ## This list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

run: setup image $(BUILD)/atoll-lab ## Boot the appliance in QEMU, run nginx in it, leave it running
	@$(BUILD)/atoll-lab run

console: $(BUILD)/atoll-lab ## Follow the console of the running appliance
	@$(BUILD)/atoll-lab console

stop: $(BUILD)/atoll-lab ## Power the appliance off
	@$(BUILD)/atoll-lab stop

image: setup ## The image for users, in out/image
	@$(BUILD)/image-build all --profile image

setup: ## Install what is missing from the distribution
	@image-build/bootstrap
	@cargo build --quiet --profile ci -p image-build
	@$(BUILD)/image-build setup

.PHONY: $(BUILD)/atoll-lab
$(BUILD)/atoll-lab:
	@cargo build --quiet --profile ci -p qemu-test --bin atoll-lab

test: setup ## Everything: conventions, unit tests, image, boots
	@rm -f out/parts
	$(PART) "fast tests" $(MAKE) --no-print-directory fast
	$(PART) "image" $(BUILD)/image-build all --profile ci
	$(PART) "reproducible image" $(BUILD)/image-build verify --profile ci
	$(PART) "boot tests" $(SUITE) cargo test --profile ci -p qemu-test --no-fail-fast --test '*'
	@qemu-test/summary

test-fast: setup ## What needs no boot
	@rm -f out/parts
	$(PART) "fast tests" $(MAKE) --no-print-directory fast
	@qemu-test/summary

.PHONY: fast
fast:
	$(PART) "format" cargo fmt --all --check
	$(PART) "lints" cargo clippy --quiet --workspace --all-targets --profile ci -- -D warnings
	$(PART) "unit tests" $(CLIENTS) cargo test --quiet --workspace --profile ci --no-fail-fast

soak: setup ## Long counts: power cuts, loops, fuzzing
	@rm -f out/parts
	$(PART) "image" $(BUILD)/image-build all --profile ci
	$(PART) "fuzzing" env FUZZ_FACTOR=100 PROPTEST_CASES=20000 cargo test --quiet --profile ci \
		--no-fail-fast $(addprefix -p ,$(FUZZED))
	$(PART) "store power cuts" env STORE_POWER_CUTS=40000 cargo test --profile ci -p store
	$(PART) "loops" $(SUITE) env ATOLL_LOOPS=10 cargo test --profile ci -p qemu-test \
		--test pods -- nginx_serves killed_ phases_ exec_ logs_
	$(PART) "programs and crowds" $(SUITE) env ATOLL_SOAK=500 cargo test --profile ci -p qemu-test \
		--test soak
	$(PART) "power cuts" $(SUITE) env ATOLL_POWER_CUTS=50 cargo test --profile ci -p qemu-test \
		--test power
	@qemu-test/summary

bench: image ## What the start of a pod costs, beside QEMU microvm
	@cargo build --quiet --profile ci -p qemu-test --bin atoll-bench
	@cargo build --quiet --profile ci -p vmm --example boot
	@cargo build --quiet --profile ci -p reconcile --example pod_start
	@$(BUILD)/atoll-bench --image out/image --programs $(BUILD)/examples

# With the optimization of the image for users.
bench-api: setup ## What the API serves and costs, beside etcd and nginx (LARGE=large: 100,000 objects)
	@cargo build --quiet --profile image -p supervisor -p apiserver --bin atoll --example bench_api
	@target/$(TARGET)/image/examples/bench_api target/$(TARGET)/image/atoll out/bench-api $(LARGE)

clean: ## Remove build results; the cache in ~/.cache/atoll stays
	@cargo clean --quiet
	@rm -rf out
