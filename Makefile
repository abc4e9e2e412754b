# Everything that a person or CI asks for has a target here.

GO ?= go
FUZZTIME ?= 60s
# How long the tests fuzz what strangers' bytes meet first.
TEST_FUZZTIME ?= $(if $(CI),60s,5s)
FUZZ := $(GO) test -run '^$$' -fuzzminimizetime 10x
OTHER_SYSTEMS := darwin windows freebsd openbsd
# Architectures of 32 bits, on Linux.
NARROW := 386 arm

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

.PHONY: build test test-long examples generate lint fmt hooks vulncheck cross fuzz bench demo packages

build:
	$(GO) build ./...

# -p 1: the tests in test/netns and the others do not share two cores well.
test: build cross examples
	@test/tools.sh $(TOOLS)
	$(GO) vet ./...
	$(GO) test -race -p 1 $$($(GO) list ./... | grep -v /test/)
	$(GO) test -timeout 30m ./test/...
	$(FUZZ) -fuzz '^FuzzParse$$' -fuzztime $(TEST_FUZZTIME) ./tun
	$(FUZZ) -fuzz '^FuzzAdmit$$' -fuzztime $(TEST_FUZZTIME) ./admission
	$(FUZZ) -fuzz '^FuzzAdmitEveryMethod$$' -fuzztime $(TEST_FUZZTIME) ./admission

# The attacks of test/netns at full length: ten million packets, and what unauthorized hosts
# can fill. Some ten minutes, as root.
test-long: build
	@test/tools.sh $(TOOLS)
	KNOCKGW_LONG=1 $(GO) test -count 1 -timeout 40m -run 'TestMixedPacketsGetNoAnswer|TestGatewayBoundsUnauthorizedUsage' ./test/netns

# They are a module of their own, so that nobody else needs what they need.
examples:
	cd examples && $(GO) build ./... && $(GO) vet ./...

# Compiles the kernel filter: CONTRIBUTING.md has what it needs.
generate:
	$(GO) generate ./internal/filter

lint:
	$(GO) run $(GOLANGCI_LINT) run
	cd examples && $(GO) run $(GOLANGCI_LINT) run

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

# Measures, in turns with HAProxy; prints tables and leaves them in BENCH_OUT (bench-out), as Markdown and as JSON.
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
