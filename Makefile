# What is done with this project, by name. CARGO_FLAGS go to cargo, ARGS to the binary: make shop ARGS="--count 10"

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint docs features msrv print-msrv deny advisories spelling package semver bench bench-hot simulate chaos shop product-filter search-prompt personal-recommendations demo-orders \
  orders-api order-router order-mailer order-sink demo-chat chat-api chat-aggregator create-chat-topics delete-chat-topics \
  create-topics delete-topics kafka-up kafka-down postgres-up postgres-down

CARGO ?= cargo
CARGO_FLAGS ?=
ARGS ?=
PARTITIONS ?= 2
SEEDS ?= 1000
CHAOS_FOR ?= 60s
# Workloads and engines of `make bench`: those of its fixed list if empty. ROUNDS and SCALE are taken, too.
BENCH ?=
ENGINES ?=
TARGET_DIR = $(abspath $(or $(CARGO_TARGET_DIR),target))
# Works on more than cargo's defaults, yet needs nothing but Rust and a C toolchain.
FEATURES := avro,fjall,monitor,testing

# The oldest Rust that is promised.
MSRV ?= $(shell sed -n 's/^rust-version = "\(.*\)"$$/\1/p' Cargo.toml)
# The release that `make semver` compares with.
RELEASED ?= $(shell git describe --tags --match 'v[0-9]*' --abbrev=0 2>/dev/null)
# 1 makes a missing tool a failure of `make lint`, too; 0 lets the tools' own targets pass without it.
REQUIRE_TOOLS ?=

# $(call tool,PROGRAM,CRATE,WHAT,ARGUMENTS): runs a program that may be missing; then says loudly that WHAT did not run.
tool = if command -v $(1) > /dev/null; then echo "$(1) $(4)"; $(1) $(4); \
  else echo "NOT RUN: $(3): $(1) is missing (cargo install --locked $(2))" >&2; [ "$(REQUIRE_TOOLS)" = 0 ]; fi
# $(call feature_sets,MANIFESTS): a line for each crate and set of features: none, the default and each other one alone, all.
feature_sets = for manifest in $(1); do \
    package=$$(sed -n 's/^name = "\(.*\)"$$/\1/p' $$manifest | head -n 1); \
    echo "$$package --no-default-features"; \
    sed -n "/^\[features\]/,/^\[[^f]/s/^\([a-z-]*\) = .*/$$package --no-default-features --features \1/p" $$manifest; \
    echo "$$package --all-features"; \
  done

# The Kafka of kafka-up, where no other is named.
WITH_KAFKA = KAFKA_BROKERS=$${KAFKA_BROKERS:-$$(docker/kafka.sh status)}
RUN = $(WITH_KAFKA) $(CARGO) run $(CARGO_FLAGS) -p shop --bin
ORDERS = $(WITH_KAFKA) $(CARGO) run $(CARGO_FLAGS) -p orders --bin
CHAT = $(WITH_KAFKA) $(CARGO) run $(CARGO_FLAGS) -p chat --bin

help: ## show this
	@echo 'make TARGET [ARGS="flags of the binary"] [CARGO_FLAGS="flags of cargo"]'
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r t what; do printf '  %-24s %s\n' "$$t" "$$what"; done

demo: ## everything in one process, without Kafka, with a page (DEMO_HTTP=127.0.0.1:PORT); DEMO_FOR=15s ends it by itself
	@$(CARGO) run $(CARGO_FLAGS) -p shop --no-default-features --features http,mimalloc --bin demo -- $(ARGS)

demo-orders: ## orders, mails and rows in one process, without Kafka, Postgres or a mail server; DEMO_FOR=15s
	@$(CARGO) run $(CARGO_FLAGS) -p orders --no-default-features --features mimalloc --bin demo-orders -- $(ARGS)

demo-chat: ## people who chat, in one process, with a page to chat on; DEMO_FOR=15s, DEMO_HTTP=127.0.0.1:8082
	@$(CARGO) run $(CARGO_FLAGS) -p chat --no-default-features --features mimalloc --bin demo-chat -- $(ARGS)

test: ## every test that this machine allows; with Java and Maven on a real Kafka, too
	@CARGO="$(CARGO)" CARGO_FLAGS="$(CARGO_FLAGS)" FEATURES="$(FEATURES)" .ci/test.sh

lint: ## formatting, clippy, docs, spelling and dependencies, without warnings; says at its end what did not run
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets --features $(FEATURES) -- -D warnings
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --exclude bench --lib --bins --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CARGO_FLAGS) --workspace --no-deps --features $(FEATURES)
	@$(MAKE) --no-print-directory spelling deny REQUIRE_TOOLS=$(or $(REQUIRE_TOOLS),0)

spelling: ## typos in code and docs, by typos; _typos.toml has the words that are right
	@$(call tool,typos,typos-cli,spelling)

deny: ## licences, duplicates and sources of the dependencies, by cargo-deny; deny.toml says what is allowed
	@$(call tool,cargo-deny,cargo-deny,licences and duplicates of dependencies,check licenses bans sources)

advisories: ## known faults in the dependencies, by cargo-deny; needs the internet
	@$(call tool,cargo-deny,cargo-deny,advisories on dependencies,check advisories)

features: ## each crate without features, with each one alone, and with all, without warnings; needs the OpenSSL headers
	@$(call feature_sets,stream-core/Cargo.toml processors/*/Cargo.toml) | while read -r package features; do \
	  echo "==> $$package $$features"; \
	  $(CARGO) clippy $(CARGO_FLAGS) -p $$package --lib --bins $$features -- -D warnings < /dev/null; \
	done

docs: ## the docs of stream-core in each of its feature sets, without warnings; needs the OpenSSL headers
	@$(call feature_sets,stream-core/Cargo.toml) | while read -r package features; do \
	  echo "==> $$package $$features"; \
	  RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CARGO_FLAGS) --no-deps -p $$package $$features < /dev/null; \
	done

msrv: ## check with the oldest Rust that is promised (rust-version in Cargo.toml), which rustup must have
	@rustup run $(MSRV) rustc --version || { \
	  echo "NOT RUN: the check with Rust $(MSRV): rustup toolchain install $(MSRV) --profile minimal" >&2; exit 1; }
	rustup run $(MSRV) cargo check $(CARGO_FLAGS) --locked --workspace --lib --bins --all-features

print-msrv:
	@echo $(MSRV)

package: ## the package that would be published, built from its own files
	$(CARGO) package $(CARGO_FLAGS) -p stream-core

semver: ## changes that break users of the newest release (a tag v*), by cargo-semver-checks
	@if [ -z "$(RELEASED)" ]; then echo "NOT RUN: the semver check: nothing is released (there is no tag v*)" >&2; exit 0; fi; \
	$(call tool,cargo-semver-checks,cargo-semver-checks,semver check,semver-checks -p stream-core --baseline-rev $(RELEASED))

bench: ## beside Kafka Streams, Goka and a bare loop, on a Kafka that it starts; BENCH=count,join for some, BENCH=all for every engine
	$(CARGO) build $(CARGO_FLAGS) --release -p bench --no-default-features
	cp $(TARGET_DIR)/release/bench $(TARGET_DIR)/release/bench-system-allocator
	$(CARGO) build $(CARGO_FLAGS) --release -p bench
	@BENCH="$(BENCH)" ENGINES="$(ENGINES)" BENCH_SYSTEM_ALLOCATOR=$(TARGET_DIR)/release/bench-system-allocator \
	  $(TARGET_DIR)/release/bench compare $(ARGS)

bench-hot: ## what a record costs on the hot paths, without Kafka: ARGS="count" for the benches of that name
	$(CARGO) bench $(CARGO_FLAGS) -p stream-core --no-default-features --bench hot -- $(ARGS)

simulate: ## many seeds through the simulator, SEEDS=1000; one again: SEED=42 GROUP=count RUST_LOG=debug; FAULTS=-Outage leaves one kind out
	@SEEDS=$(SEEDS) SEED=$(SEED) GROUP="$(GROUP)" FAULTS="$(FAULTS)" $(CARGO) test $(CARGO_FLAGS) --release -p stream-core --no-default-features \
	  --test simulation many_seeds -- --exact --ignored --nocapture

chaos: ## kill, stop and freeze processes on a real Kafka that restarts, CHAOS_FOR=10m; the faults of a run again: CHAOS_SEED=42
	@RUST_LOG=$${RUST_LOG:-off} CHAOS_FOR=$(CHAOS_FOR) CHAOS_SEED=$(CHAOS_SEED) $(CARGO) test $(CARGO_FLAGS) -p stream-core --test processes kafka_chaos:: -- \
	  --ignored --nocapture

shop: ## write made-up products, 30 a second
	@$(RUN) shop -- $(ARGS)

product-filter: ## keep the products that pass a rule, which can be typed
	@$(RUN) product-filter -- $(ARGS)

search-prompt: ## write what is typed as searches
	@$(RUN) search-prompt -- $(ARGS)

personal-recommendations: ## join products and searches, tell users, serve each one's newest over HTTP
	@$(RUN) personal-recommendations -- $(ARGS)

orders-api: ## take orders over HTTP, and show them
	@$(ORDERS) orders-api -- $(ARGS)

order-router: ## let each order through once, by priority and city
	@$(ORDERS) order-router -- $(ARGS)

order-mailer: ## mail the customers of urgent orders, by SMTP_HOST and SMTP_PORT
	@$(ORDERS) order-mailer -- $(ARGS)

order-sink: ## write the orders to a Postgres, by DATABASE_DSN
	@$(ORDERS) order-sink -- $(ARGS)

chat-api: ## take messages over HTTP, and show the history and what is said; accounts by DATABASE_DSN
	@$(CHAT) chat-api -- $(ARGS)

chat-aggregator: ## group what one user writes to one chat
	@$(CHAT) chat-aggregator -- $(ARGS)

create-chat-topics: ## make the chat's topics, with PARTITIONS=2
	@$(CHAT) chat-topics -- create --partitions $(PARTITIONS) $(ARGS)

delete-chat-topics: ## delete the chat's topics and all that is in them
	@$(CHAT) chat-topics -- delete $(ARGS)

create-topics: ## make the shop's topics, with PARTITIONS=2
	@$(RUN) shop-topics -- create --partitions $(PARTITIONS) $(ARGS)

delete-topics: ## delete the shop's topics and all that is in them
	@$(RUN) shop-topics -- delete $(ARGS)

kafka-up: ## start a Kafka on this machine; the targets above find it
	@docker/kafka.sh up

kafka-down: ## stop it and delete its data
	@docker/kafka.sh down

postgres-up: ## start a Postgres on this machine, of the binaries that are installed; prints its DATABASE_DSN
	@docker/postgres.sh up

postgres-down: ## stop it and delete its data
	@docker/postgres.sh down
