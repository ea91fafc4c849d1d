# Patchbay: build, test, measure. `make` alone prints what there is.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PREFIX    ?= /usr/local
CNIBINDIR ?= /opt/cni/bin
DESTDIR   ?=
LIBEXECDIR ?= $(PREFIX)/libexec/patchbay
HOOKDIR   ?= /etc/libvirt/hooks
MANDIR     = $(PREFIX)/share/man/man1
UNITDIR    = $(PREFIX)/lib/systemd/system
COMPDIR    = $(PREFIX)/share/bash-completion/completions
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

GOLANGCI_VERSION := v2.15.0
BUF_VERSION      := v1.75.0
PROTOC_GEN_GO_VERSION      := v1.36.12
PROTOC_GEN_GO_GRPC_VERSION := v1.6.2
PLUGINS_VERSION  := v1.9.1
CNITOOL_VERSION  := v1.3.0
export GOLANGCI_VERSION PLUGINS_VERSION CNITOOL_VERSION

TOOLS   := bin/tools
LDFLAGS := '-s -w -X main.version=$(VERSION) -X main.buildVersion=$(VERSION) -X github.com/patchbay-net/patchbay/core/wire.Build=$(VERSION)'
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags $(LDFLAGS)
PLUGINS := example ipsec sriov vmq
# The CNI plugin and the libvirt hook ask patchbayd before Go's runtime begins: see docs/adr/0010-plugin-asks-first.md.
ENTRY   := $(if $(filter amd64,$(shell go env GOARCH)),-E _patchbay_start)
EARLYBUILD := CGO_ENABLED=0 go build -trimpath -ldflags $(LDFLAGS)' $(ENTRY)'
# patchbayd with libvirt: a C compiler builds it, and it loads libvirt's library when it
# runs where there is one. See docs/adr/0015-two-patchbayds.md.
LIBVIRT  ?= $(if $(shell command -v "$$(go env CC)"),yes,no)
DAEMON    = $(if $(filter yes,$(LIBVIRT)),bin/libvirt/patchbayd,bin/patchbayd)
UNIT    := ./core/... ./cni/... ./cmd/... ./libvirt-hook/... ./sdk/... ./plugins/...
# golangci-lint vets what is tested: `make lint`.
GOTEST  := go test -json -vet=off -count=1
UNITRUN := GORACE=atexit_sleep_ms=0 GOGC=400 $(GOTEST) -race -shuffle=on -timeout 20m
REPORT  := go run ./integration/testreport -skips bin/skipped -counts bin/counts
FUZZRUNS ?= 20000

# Files that `make generate` writes and that are committed.
GENERATED := docs/cli sdk/proto

# $(call stage,NAME,COMMAND) runs COMMAND and notes how long it took in bin/stages.
stage = @mkdir -p bin; echo "==> $(1)"; t=$$SECONDS; rc=0; ( $(2) ) || rc=$$?; \
	line=$$(printf '%-18s %4d s  %s' '$(1)' $$((SECONDS - t)) "$$([ $$rc = 0 ] && echo ok || echo FAILED)"); \
	echo "$$line" | tee -a bin/stages; exit $$rc

# $(call all,TARGETS) makes every target, whatever fails, and sums up: how long each
# stage took, which tests were skipped and why, and the count.
all = mkdir -p bin; for f in stages skipped counts; do : >bin/$$f; done; \
	rc=0; for s in $(1); do $(MAKE) $$s || rc=1; done; \
	echo; echo Stages; sed 's/^/  /' bin/stages; \
	if [ -s bin/skipped ]; then echo Skipped; sed 's/^/  /' bin/skipped; fi; \
	if grep -q ': left to a guest' bin/skipped; then echo 'No guest passed what was left to one.'; rc=1; fi; \
	awk -v s=$$(wc -l <bin/skipped) '{p += $$1; f += $$3} END {printf "%d passed, %d failed, %d skipped\n", p, f, s}' bin/counts; exit $$rc

.PHONY: help
help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/patchbay, bin/patchbayd, bin/cni/patchbay, bin/patchbay-libvirt-hook and bin/plugins, static; bin/libvirt/patchbayd
	@mkdir -p bin/cni bin/plugins bin/libvirt
	$(GOBUILD) -o bin/patchbay ./cmd/patchbay
	$(GOBUILD) -o bin/patchbayd ./cmd/patchbayd
	$(EARLYBUILD) -o bin/cni/patchbay ./cni
	$(foreach p,$(PLUGINS),$(GOBUILD) -o bin/plugins/patchbay-plugin-$p ./plugins/$p && )true
	$(EARLYBUILD) -o bin/patchbay-libvirt-hook ./libvirt-hook
ifeq ($(LIBVIRT),yes)
	CGO_ENABLED=1 go build -tags libvirt_dlopen -trimpath -ldflags $(LDFLAGS) -o bin/libvirt/patchbayd ./cmd/patchbayd
endif

.PHONY: install
install: build ## Install under DESTDIR: PREFIX (/usr/local), CNIBINDIR (/opt/cni/bin), HOOKDIR (/etc/libvirt/hooks), UNITDIR
	install -D -m 0755 bin/patchbay '$(DESTDIR)$(PREFIX)/bin/patchbay'
	install -D -m 0755 $(DAEMON) '$(DESTDIR)$(PREFIX)/bin/patchbayd'
	install -D -m 0644 packaging/systemd/patchbayd.socket '$(DESTDIR)$(UNITDIR)/patchbayd.socket'
	sed 's|@BINDIR@|$(PREFIX)/bin|' packaging/systemd/patchbayd.service >bin/patchbayd.service
	install -D -m 0644 bin/patchbayd.service '$(DESTDIR)$(UNITDIR)/patchbayd.service'
	sed 's|@BINDIR@|$(PREFIX)/bin|; s|@CNIBINDIR@|$(CNIBINDIR)|' packaging/systemd/patchbay-restore.service >bin/patchbay-restore.service
	install -D -m 0644 bin/patchbay-restore.service '$(DESTDIR)$(UNITDIR)/patchbay-restore.service'
	install -D -m 0755 bin/cni/patchbay '$(DESTDIR)$(CNIBINDIR)/patchbay'
	install -D -m 0755 bin/patchbay-libvirt-hook '$(DESTDIR)$(LIBEXECDIR)/patchbay-libvirt-hook'
	packaging/libvirt/hooks install bin/patchbay-libvirt-hook '$(DESTDIR)$(HOOKDIR)'
	install -d '$(DESTDIR)$(MANDIR)' '$(DESTDIR)$(COMPDIR)'
	bin/patchbay docs man '$(DESTDIR)$(MANDIR)'
	bin/patchbay completion bash >'$(DESTDIR)$(COMPDIR)/patchbay'

.PHONY: uninstall
uninstall: ## Remove what install put there; switches and their state stay
	rm -f '$(DESTDIR)$(PREFIX)/bin/patchbayd' '$(DESTDIR)$(UNITDIR)'/patchbayd.{socket,service} '$(DESTDIR)$(UNITDIR)/patchbay-restore.service'
	rm -f '$(DESTDIR)$(PREFIX)/bin/patchbay' '$(DESTDIR)$(CNIBINDIR)/patchbay' '$(DESTDIR)$(COMPDIR)/patchbay'
	packaging/libvirt/hooks uninstall '$(DESTDIR)$(HOOKDIR)'
	rm -f '$(DESTDIR)$(LIBEXECDIR)/patchbay-libvirt-hook'
	rm -f '$(DESTDIR)$(MANDIR)'/patchbay.1 '$(DESTDIR)$(MANDIR)'/patchbay-*.1

.PHONY: deps
deps: ## Install what the tests need: Debian packages and the reference plugins
	$(call stage,deps,integration/setup.sh)

.PHONY: test
test: ## All tests; as root, or the integration tests are skipped
	@$(call all,deps test-unit test-integration test-integration-daemon test-libvirt test-guest)

# A program with the race detector waits for a second before it exits, also each one that a
# test starts; and an eighth of what the tests do is collecting garbage, unless it may pile up.
# Those of core/kernel measure rates, and have the machine to themselves.
.PHONY: test-unit
test-unit: ## Unit tests with the race detector, shuffled
	$(call stage,test-unit,{ $(UNITRUN) $$(go list $(UNIT) | grep -v '/core/kernel$$'); $(UNITRUN) ./core/kernel; } | $(REPORT))

# Plugin, command and daemon that can be made to die at any step in the kernel and any
# commit of the store.
.PHONY: build-faults
build-faults:
	@mkdir -p bin/faults/cni
	@$(EARLYBUILD) -tags patchbay_faults -o bin/faults/cni/patchbay ./cni
	@$(EARLYBUILD) -tags patchbay_faults -o bin/faults/patchbay-libvirt-hook ./libvirt-hook
	@$(GOBUILD) -tags patchbay_faults -o bin/faults/patchbay ./cmd/patchbay
	@$(GOBUILD) -tags patchbay_faults -o bin/faults/patchbayd ./cmd/patchbayd
	@$(GOBUILD) -tags patchbay_faults -o bin/faults/patchbay-plugin-sriov ./plugins/sriov

.PHONY: test-integration
test-integration: build build-faults deps ## Real kernel, real plugins, real runtimes, in private namespaces
	$(call stage,test-integration,$(GOTEST) -parallel 4 -timeout 25m $$(go list ./integration/... | grep -v -e /integration/guest -e /integration/libvirt -e /integration/nested) | $(REPORT))

# What runtimes and users see is the same where patchbayd runs: these tests are run
# once more, with one on every host. Left out are those that harm a switch and look at
# the harm, which patchbayd mends meanwhile.
WITHDAEMON := Versions|Result|MTU|Portmap|Tuning|AdoptedNetdev|Concurrent|Del|DelOf.*|AddRacesDel|ErrorCodes|Disagreement|RulesetFlushed|GC|CheckToleratesLaterPlugins|Status|PrivateIsClosed|DelegatedIPAM|Pool|Requested|Routes|Reboot|Reachability

.PHONY: test-integration-daemon
test-integration-daemon: build build-faults deps ## The integration tests that matter, on hosts with patchbayd
	$(call stage,test-with-daemon,PATCHBAY_TEST_DAEMON=1 $(GOTEST) -timeout 10m -run '^Test($(WITHDAEMON))$$' ./integration | $(REPORT))

# Process 1 of the virtual machines that test-libvirt runs, and a hook that does nothing.
.PHONY: build-libvirt
build-libvirt:
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/ ./integration/libvirt/vminit ./integration/libvirt/emptyhook

.PHONY: test-libvirt
test-libvirt: build build-faults build-libvirt deps ## Real libvirtd, of two versions, with virtual machines, in namespaces of their own
	$(call stage,test-libvirt,$(GOTEST) -parallel 4 -timeout 20m ./integration/libvirt/... | $(REPORT))

# Programs with static linking, which run in guests as they are.
.PHONY: build-guest
build-guest:
	@CGO_ENABLED=0 go build -trimpath -o bin/guest ./integration/guest/run

.PHONY: test-guest
test-guest: build build-faults build-guest build-libvirt ## What this machine's kernel cannot run, in guests with kernels that can
	$(call stage,test-guest,bin/guest test ./... | $(REPORT) -guests)

# Some twenty guests, of which half shall die: for those who change the runner.
.PHONY: test-runner
test-runner: ## What boots guests: status, output, crashes, limits, nothing left behind
	$(call stage,test-runner,$(GOTEST) -timeout 20m ./integration/guest/run | $(REPORT))

# Guests within guests are slow: no part of `make check`, and best left alone on the machine.
.PHONY: test-migration
test-migration: build build-guest build-libvirt deps ## Live migration of a VM with a real VF, between two hosts in a guest: takes minutes, beside make check
	$(call stage,test-migration,bin/guest test -kernel qemu -nested -nics 3 -limit 30m -run . ./integration/nested | $(REPORT))

# A guest with Patchbay in its PATH: a shell in it, or CMD; KERNEL is qemu or uml.
KERNEL ?= qemu
.PHONY: guest
guest: build build-guest deps ## Shell in a guest with VLANs, teams, NICs n0-n3; or CMD='patchbay doctor' in it
	@bin/guest exec -kernel $(KERNEL) $(if $(CMD),sh -c '$(subst ','\'',$(CMD))')

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## golangci-lint, pinned
	$(call stage,lint,$(TOOLS)/golangci-lint run ./...)

$(TOOLS)/golangci-lint:
	$(call stage,install-lint,GOBIN=$(CURDIR)/$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION))

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint ## Format the source
	$(TOOLS)/golangci-lint fmt ./...

.PHONY: generate
generate: proto ## Write the generated files anew
	go generate ./...

# The protocol of plugins: generated from sdk/proto, checked for form, and held against the
# last release of it, whose plugins must go on working.
PROTOTOOLS := $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc
.PHONY: proto
proto: $(PROTOTOOLS)
	@cd sdk/proto && PATH="$(CURDIR)/$(TOOLS):$$PATH" buf lint && PATH="$(CURDIR)/$(TOOLS):$$PATH" buf breaking --against released.binpb \
		&& PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate

.PHONY: proto-release
proto-release: proto ## What plugins are promised from now on: the protocol as it is
	cd sdk/proto && $(CURDIR)/$(TOOLS)/buf build -o released.binpb

$(TOOLS)/buf:
	$(call stage,install-buf,GOBIN=$(CURDIR)/$(TOOLS) go install github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION))
$(TOOLS)/protoc-gen-go:
	@GOBIN=$(CURDIR)/$(TOOLS) go install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION)
$(TOOLS)/protoc-gen-go-grpc:
	@GOBIN=$(CURDIR)/$(TOOLS) go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC_VERSION)

.PHONY: generate-diff
generate-diff: ## Fail when a committed generated file is not what generate writes
	$(call stage,generate-diff,$(MAKE) generate && git diff --exit-code -- $(GENERATED) \
		&& ! git ls-files --others --exclude-standard -- $(GENERATED) | grep .)

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZRUNS executions
	$(call stage,fuzz,integration/fuzz.sh $(FUZZRUNS))

# What policies of ports cost: an attach with guards and with an ACL, and a frame with each.
.PHONY: bench-policy
bench-policy: ## Measure guards, ACLs, limits and mirrors, as root: figures for docs/performance.md
	$(call stage,bench-policy,go test ./core/kernel -run '^$$' -bench 'Guards|Policies' -benchtime 200x \
		&& go test ./core/engine -run '^$$' -bench 'AttachWith(Policy|Limits)' -benchtime 200x)

.PHONY: bench
bench: build deps ## Measure against the reference plugin; table into docs/performance.md
	$(call stage,bench,go build -o bin/bench ./integration/bench && bin/bench $(BENCHFLAGS))

.PHONY: bench-plugin
bench-plugin: ## Measure what starting a plugin and calling it costs
	go test -run '^$$' -bench . -benchtime 100x ./sdk/host

# The log of a test is its table; where it fails, the report says why.
.PHONY: failover
failover: build build-guest ## Measure in a guest what a failover of teams costs; prints the table of docs/performance.md
	@bin/guest test -kernel qemu -run 'TestTeamFailover$$' ./integration >bin/failover.json || { go run ./integration/testreport <bin/failover.json; exit 1; }
	@sed -n 's/.*"Output":" *teamfailover_test.go:[0-9]*: \(|.*|\)\\n".*/\1/p' bin/failover.json

.PHONY: demo
demo: build build-guest ## Three switches, six containers, and who reaches whom; VLANs, and a team that loses a cable; as root
	@go build -o bin/demo ./integration/demo
	@bin/demo

# The demo as a stage of `make check`.
.PHONY: check-demo
check-demo: build build-guest
	@go build -o bin/demo ./integration/demo
	$(call stage,demo,if [ "$$(id -u)" = 0 ]; then bin/demo; else echo 'demo: needs root' | tee -a bin/skipped; fi)

# Integration tests wait for the kernel most of their time. What needs no clock goes on beside
# them with the processor time that they leave, and is read when it has ended. A shell has what is in
# the background ignore Ctrl-C, so that ends all of the process group.
BESIDE := lint generate-diff fuzz
.PHONY: check-integration
check-integration:
	@trap 'kill 0' INT; mkdir -p bin; echo 'beside the integration tests: $(BESIDE)'; nice -n 19 $(MAKE) -k $(BESIDE) >bin/beside 2>&1 & beside=$$!; \
	rc=0; for s in test-integration test-integration-daemon; do $(MAKE) $$s || rc=1; done; \
	wait $$beside || rc=1; cat bin/beside; exit $$rc

.PHONY: check
check: ## What CI runs: lint, generate-diff, test, fuzz, demo
	@$(call all,deps check-integration test-libvirt test-unit test-guest check-demo)

.PHONY: clean
clean: ## Remove what was built, tools included
	rm -rf bin
