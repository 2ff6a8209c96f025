# SPDX-License-Identifier: MIT
# Short names for what scripts/ does. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help build test test-unit test-native test-differential test-usernet test-tcg test-conformance test-boot test-browser test-desktop test-sanitizers rig-kvm rig-xen fuzz lint format bench guest run docs news clean
ARCH ?= $(shell uname -m)
SUITE ?= trixie
FLAVOUR ?= minimal
FUZZ_SECONDS ?= 60
DIR ?= .cache/guests/$(ARCH)-$(SUITE)$(if $(filter-out minimal,$(FLAVOUR)),-$(FLAVOUR))
BIN := .venv/bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## a virtual environment with the project and its developer tools
	@bash -c '. scripts/lib.sh; need "$${build_packages[@]}"; install_project tcg,web,xen,dev'

test: ## everything CI runs
	@scripts/test

test-unit test-native test-differential test-usernet test-tcg test-conformance test-boot test-browser test-desktop test-sanitizers: ## one layer
	@scripts/test $(@:test-%=%)

rig-xen: ## the xen backend on a real Xen, in a rig of QEMU's emulated SVM
	@scripts/test rig-xen

rig-kvm: ## the kvm backend on a real KVM, in rigs of QEMU's emulated SVM and EL2
	@scripts/test rig-kvm

fuzz: ## every fuzz target, FUZZ_SECONDS (60) seconds each
	@scripts/fuzz $(FUZZ_SECONDS)

lint: ## ruff, formatters, mypy: as pre-commit and CI do
	@scripts/lint

format: ## let ruff and clang-format rewrite the sources
	@scripts/lint fix

bench: guest ## benchmarks of rings, disk and a guest of ARCH; their options: docs/performance.md
	@$(BIN)/python bench/rings/run.py
	@$(BIN)/python bench/blk/run.py
	@$(BIN)/python bench/guest/run.py --guest $(DIR) --arch $(ARCH)

guest: build ## a guest image for ARCH and SUITE in DIR; FLAVOUR=desktop: with a desktop
	@$(BIN)/vdesktop guest build --arch $(ARCH) --suite $(SUITE) --flavour $(FLAVOUR) -o $(DIR)

run: guest ## boot that guest
	@$(BIN)/vdesktop run $(DIR)/machine.toml --net user

docs: build ## the part of the specification that is printed from code
	@$(BIN)/python -m vdesktop_core.arch.spec >docs/spec/memory-map.md

news: build ## what the next release's notes will say
	@$(BIN)/towncrier build --draft --version next

clean: ## remove what can be made again
	@rm -rf .cache/sanitize .cache/fuzz build .mypy_cache .ruff_cache .pytest_cache .hypothesis
