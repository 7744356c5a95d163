# What is done with this project, by name. CARGO_FLAGS go to cargo, ARGS to the binary: make shop ARGS="--count 10"

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint simulate chaos shop product-filter search-prompt personal-recommendations demo-orders \
  orders-api order-router order-mailer order-sink demo-chat chat-api chat-aggregator create-chat-topics delete-chat-topics \
  create-topics delete-topics kafka-up kafka-down postgres-up postgres-down

CARGO ?= cargo
CARGO_FLAGS ?=
ARGS ?=
PARTITIONS ?= 2
SEEDS ?= 1000
CHAOS_FOR ?= 60s
# Works on more than cargo's defaults, yet needs nothing but Rust and a C toolchain.
FEATURES := avro,monitor,testing

# The Kafka of kafka-up, where no other is named.
WITH_KAFKA = KAFKA_BROKERS=$${KAFKA_BROKERS:-$$(docker/kafka.sh status)}
RUN = $(WITH_KAFKA) $(CARGO) run $(CARGO_FLAGS) -p shop --bin
ORDERS = $(WITH_KAFKA) $(CARGO) run $(CARGO_FLAGS) -p orders --bin
CHAT = $(WITH_KAFKA) $(CARGO) run $(CARGO_FLAGS) -p chat --bin

help: ## show this
	@echo 'make TARGET [ARGS="flags of the binary"] [CARGO_FLAGS="flags of cargo"]'
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r t what; do printf '  %-24s %s\n' "$$t" "$$what"; done

demo: ## everything in one process, without Kafka, with a page (DEMO_HTTP=127.0.0.1:PORT); DEMO_FOR=15s ends it by itself
	@$(CARGO) run $(CARGO_FLAGS) -p shop --no-default-features --features http --bin demo -- $(ARGS)

demo-orders: ## orders, mails and rows in one process, without Kafka, Postgres or a mail server; DEMO_FOR=15s
	@$(CARGO) run $(CARGO_FLAGS) -p orders --no-default-features --bin demo-orders -- $(ARGS)

demo-chat: ## people who chat, in one process, with a page to chat on; DEMO_FOR=15s, DEMO_HTTP=127.0.0.1:8082
	@$(CARGO) run $(CARGO_FLAGS) -p chat --no-default-features --bin demo-chat -- $(ARGS)

test: ## every test that this machine allows; with Java and Maven on a real Kafka, too
	@CARGO="$(CARGO)" CARGO_FLAGS="$(CARGO_FLAGS)" FEATURES="$(FEATURES)" .ci/test.sh

lint: ## formatting, clippy and docs, without warnings
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets --features $(FEATURES) -- -D warnings
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --exclude bench --lib --bins --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CARGO_FLAGS) --workspace --no-deps --features $(FEATURES)

simulate: ## many seeds through the simulator, SEEDS=1000; one again: SEED=42 GROUP=count RUST_LOG=debug
	@SEEDS=$(SEEDS) SEED=$(SEED) GROUP="$(GROUP)" $(CARGO) test $(CARGO_FLAGS) --release -p stream-core --no-default-features \
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
