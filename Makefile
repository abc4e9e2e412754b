# Everything that a person or CI asks for has a target here.

GO ?= go
FUZZTIME ?= 60s
# How long `make test` and `make test-long` fuzz the code that reads packets of
# unauthorized hosts.
TEST_FUZZTIME ?= 5s
LONG_FUZZTIME ?= 60s
FUZZ := $(GO) test -run '^$$' -fuzzminimizetime 10x
OTHER_SYSTEMS := darwin windows freebsd openbsd
# Architectures of 32 bits, on Linux.
NARROW := 386 arm

# test/progress shows elapsed times since then, and so does phase.
ifndef STARTED
export STARTED := $(shell date +%s)
endif
GOTEST = $(GO) run ./test/progress
phase = @t=$$(($$(date +%s) - STARTED)); printf '[%02d:%02d] == %s\n' $$((t / 60)) $$((t % 60)) $(1)

# What packages say they are.
VERSION ?= 0.0.0+$(shell git log -1 --format=%cd.%h --date=format:%Y%m%d)
ARCHITECTURES ?= amd64 arm64
PACKAGES ?= packages

# What the tests run besides ourselves, with the packages of Debian that have it.
TOOLS := nmap curl sshd:openssh-server ssh:openssh-client ip:iproute2 ping:iputils-ping nsenter:util-linux /usr/sbin/nginx:nginx-light nft:nftables iptables \
	psql:postgresql-client '/usr/lib/postgresql/*/bin/initdb:postgresql' promtool:prometheus iperf3 tcpdump tshark chromium rpm \
	/usr/share/bash-completion/bash_completion:bash-completion \
	clang llvm-strip:llvm /usr/include/bpf/bpf_helpers.h:libbpf-dev

# The linter is no requirement of the module, so its version stands here.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@latest

.PHONY: build test test-long tools unit-tests network-tests network-tests-long test-fuzz examples lint lint-main lint-examples \
	fmt hooks vulncheck cross fuzz bench demo packages

build:
	$(GO) build ./...

# In 12 minutes from a fresh clone, on two processors. Tests that take long are
# skipped, and listed; test-long runs them. The linter runs beside the network
# tests, which mostly wait, at the lowest priority.
test:
	$(call phase,'build and install test tools')
	@$(MAKE) --no-print-directory -j2 build tools
	$(call phase,'package tests with the race detector')
	@$(MAKE) --no-print-directory unit-tests
	$(call phase,'network tests and linter')
	@$(MAKE) --no-print-directory -j2 network-tests lint-main
	$(call phase,'fuzzing')
	@$(MAKE) --no-print-directory test-fuzz
	$(call phase,'done')

# Everything that is too long for test: the tests that call testtool.Long at full
# length, packages, other systems, the examples, longer fuzzing. Half an hour, as
# root.
test-long: export KNOCKGW_LONG = 1
test-long:
	$(call phase,'other systems and examples')
	@$(MAKE) --no-print-directory tools build cross examples lint-examples
	$(GO) vet ./...
	$(call phase,'long network tests and packages')
	@$(MAKE) --no-print-directory network-tests-long
	$(call phase,'fuzzing')
	@$(MAKE) --no-print-directory test-fuzz TEST_FUZZTIME=$(LONG_FUZZTIME)
	$(call phase,'done')

tools:
	@test/tools.sh $(TOOLS)

unit-tests:
	@$(GOTEST) -- -race $$($(GO) list ./... | grep -v /test/)

# -count 1: the tests build the program themselves, of which the cache of results
# knows nothing.
network-tests:
	@$(GOTEST) -each netns -- -count 1 -parallel 8 -timeout 30m ./test/...

network-tests-long:
	@$(GOTEST) -each netns,packages -- -count 1 -timeout 50m -run "$$(test/long.sh test/netns)" ./test/netns
	@$(GOTEST) -each packages -- -count 1 -timeout 30m ./test/packages

# go test -fuzz is content with a target that does not exist, so it is listed first.
fuzz-target = $(GO) test -list '^$(2)$$' $(1) | grep -qx $(2) && $(FUZZ) -fuzz '^$(2)$$' -fuzztime $(TEST_FUZZTIME) $(1)

test-fuzz:
	$(call fuzz-target,./packet,FuzzParse)
	$(call fuzz-target,./admission,FuzzAdmit)
	$(call fuzz-target,./admission,FuzzAdmitEveryMethod)

# The examples are a module of their own, so that their requirements are not ours.
examples:
	cd examples && $(GO) build ./... && $(GO) vet ./...

lint: lint-main lint-examples

lint-main:
	@nice -n 19 $(GO) run $(GOLANGCI_LINT) run --allow-parallel-runners

lint-examples:
	@cd examples && nice -n 19 $(GO) run $(GOLANGCI_LINT) run --allow-parallel-runners

fmt:
	gofmt -l -w .

hooks:
	git config core.hooksPath .githooks

vulncheck:
	$(GO) run $(GOVULNCHECK) ./...

cross:
	@for os in $(OTHER_SYSTEMS); do echo "GOOS=$$os go build ./..."; GOOS=$$os $(GO) build ./... || exit 1; done
	@for arch in $(NARROW); do echo "GOOS=linux GOARCH=$$arch go build ./..."; GOOS=linux GOARCH=$$arch $(GO) build ./... || exit 1; done

# Every fuzz target for FUZZTIME each. (Go's own limit for making a find smaller,
# a minute of it, would eat up the time.)
fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; $(FUZZ) -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; done

# Compares with HAProxy, interleaved; prints tables and writes them to BENCH_OUT (bench-out), as Markdown and as JSON.
# A quarter of an hour, as root; BENCH_ROUNDS=1 is a quick look, and one part alone is
#	KNOCKGW_BENCH=1 go test -count 1 -v -run TestBench/latency ./test/bench
bench:
	@test/tools.sh iperf3 haproxy
	KNOCKGW_BENCH=1 $(GO) test -count 1 -timeout 60m -v ./test/bench

demo:
	@echo "compiling knockgw, which takes a minute the first time"
	$(GO) run ./cmd/knockgw demo

# Packages for Debian and Red Hat, and tarballs, in PACKAGES. The same commit makes the same bytes.
packages:
	GO=$(GO) deploy/packages/build.sh $(PACKAGES) $(VERSION) $(ARCHITECTURES)
