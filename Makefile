# The one door. `make` lists what can be done; CI runs the same targets (.ci/run).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
IMAGE ?= pusher
# Of the release steps; the first is the Dockerfile's too.
AUDITABLE := 0.7.7
CYCLONEDX := 0.5.9
NIGHTLY ?= nightly
FUZZED = $(basename $(notdir $(wildcard fuzz/targets/*.rs)))

##@ First
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo

deps: ## install what builds, tests and benches need (Debian or Ubuntu, with apt-get)
	@tools/deps install build test bench

demo: deps-build ## both workers on embedded parts: 20,000 pushes through each, a table, the balances
	$(CARGO) run --locked --release -- demo $(ARGS)

##@ Build
build: deps-build ## a development build: target/debug/pusher
	$(CARGO) build --locked

release: deps-build ## a release build that depends on glibc alone (needs perl; OpenSSL and zlib inside): target/dist/pusher
	@command -v perl >/dev/null || { echo "missing: perl (OpenSSL's own build needs it); apt-get install -y perl" >&2; exit 1; }
	@command -v cargo-auditable >/dev/null || echo "cargo-auditable is not installed (make release-tools): the binary will not list its crates" >&2
	$(CARGO) $$(command -v cargo-auditable >/dev/null && echo auditable) build --locked --profile dist --features static

docker: ## the container image: IMAGE=pusher
	docker build -t $(IMAGE) .

##@ Release
release-tools: ## install what the release steps need: cargo-auditable, cargo-cyclonedx
	$(CARGO) install --locked --version $(AUDITABLE) cargo-auditable
	$(CARGO) install --locked --version $(CYCLONEDX) cargo-cyclonedx

sbom: ## the bill of materials of a release, CycloneDX: target/dist/pusher.cdx.json
	$(CARGO) cyclonedx --format json --features static --override-filename pusher.cdx
	mkdir -p target/dist && mv pusher.cdx.json target/dist/

docker-multi: ## the image for amd64 and arm64 with SBOM and provenance, pushed: IMAGE=registry.example.com/pusher:1.2.3
	docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=mode=max -t $(IMAGE) --push .

chart: ## the Helm chart as a package: target/dist/pusher-<version>.tgz
	mkdir -p target/dist && "$$(tools/helm-fetch)" package deploy/helm -d target/dist

##@ Check
test: deps-test kafka ## every test, on real Apache Kafka, PostgreSQL and Redis too
	$(CARGO) test --locked $(ARGS)
	$(if $(ARGS),,$(CARGO) test --locked --test chaos -- --short)

test-fast: deps-build ## without real neighbours: logic, and the worker on embedded parts
	$(CARGO) test --locked --lib --bins
	$(CARGO) test --locked --test it -- --skip real_ --skip fault_

check: deps-build ## format, lints, documentation, dependencies: nothing may warn
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test chaos -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --all-features check; \
	else echo "cargo-deny is not installed: licences and advisories not checked"; fi

test-page: deps-test ## the status page in a real browser (screenshots: target/page), and the admin server against its description
	$(CARGO) test --locked --test it -- --nocapture flow_page

kafka: ## fetch Apache Kafka for the tests, once, into the user's cache
	@tools/kafka-fetch >/dev/null

##@ Trouble
chaos: deps-test kafka ## faults on real Kafka in random order, each with its promise; ARGS="--seed 7 --only kafka", ROW=kills
	$(CARGO) test --locked --release --test chaos -- $(ROW) $(ARGS)

fuzz: deps-build ## every fuzz target, or TARGET=topic, for TIME=60 seconds (needs cargo-fuzz and a nightly Rust)
	@command -v cargo-fuzz >/dev/null || { echo "missing: cargo-fuzz; cargo install --locked cargo-fuzz" >&2; exit 1; }
	@rustc +$(NIGHTLY) -V >/dev/null 2>&1 || { echo "missing: a nightly Rust, whose compiler has coverage hooks; rustup toolchain install $(NIGHTLY) --profile minimal" >&2; exit 1; }
	@for target in $(or $(TARGET),$(FUZZED)); do \
		mkdir -p fuzz/target/found/$$target fuzz/target/artifacts; \
		RUSTUP_TOOLCHAIN=$(NIGHTLY) $(CARGO) fuzz run --sanitizer none $$target fuzz/target/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(or $(TIME),60) -timeout=10 -max_len=16384 -artifact_prefix=fuzz/target/artifacts/$$target-; \
	done

##@ Load
bench: deps-build ## CPU per push of both workers, beside a bare HTTP/2 client: 5 rounds, some minutes
	$(CARGO) bench --locked --bench push -- $(ARGS)

bench-quick: deps-build ## the same in under two minutes
	$(CARGO) bench --locked --bench push -- --quick $(ARGS)

profile: deps-build ## instructions per push by part of the program, under callgrind: ARGS='apns functions' for one platform with its functions
	@command -v valgrind >/dev/null || { echo "missing: valgrind; apt-get install -y valgrind" >&2; exit 1; }
	$(CARGO) bench --locked --bench push -- profile $(ARGS)

bench-lanes: deps-test kafka ## how long urgent pushes take beside a campaign of a million, and without it, on real Kafka
	$(CARGO) test --locked --release --test it -- --nocapture --ignored --exact \
		real_lanes::a_campaign_of_a_million_delays_urgent_pushes_little

bench-memory: deps-test kafka ## resident memory with 10,000 pushes in flight, on real Kafka
	$(CARGO) test --locked --release --test it -- --nocapture --ignored --exact \
		real_memory::ten_thousand_pushes_in_flight_take_little_memory

bench-quota: deps-build ## how a campaign finds an FCM quota that is half of the configured one: eight minutes
	$(CARGO) test --locked --release --test it -- --nocapture --ignored --exact \
		flow_outages_gcm::a_quota_lower_than_configured_is_found

bench-listener: deps-test kafka ## tokens per second from Kafka to PostgreSQL, by the feedback listener, both real
	$(CARGO) test --locked --release --test it -- --nocapture --exact \
		real_listener::a_backlog_of_dead_tokens_is_worked_off_exactly_and_soon

bench-produce: PLATFORMS = $(or $(PLATFORM),apns gcm)
bench-produce: deps-build ## how to fill topics: by the console producer, or by the generator itself
	@if [ -n "$(TOPIC)" ] && [ -z "$(PLATFORM)" ]; then echo "TOPIC is one platform's: name it, PLATFORM=apns or gcm" >&2; exit 1; fi
	$(CARGO) build --locked --release
	@for platform in $(PLATFORMS); do \
		generate="target/release/pusher generate $$platform --app game --count $(or $(COUNT),100000)"; \
		topic="$(or $(TOPIC),push-game_$$platform-single)"; \
		echo; echo "# messages of $$platform in the producers' format, by any producer:"; \
		echo "$$generate | \\"; \
		echo "    kafka-console-producer.sh --bootstrap-server $(or $(BROKERS),localhost:9092) --topic $$topic"; \
		echo "# or produced by pusher itself, with a progress bar:"; \
		echo "$$generate --brokers $(or $(BROKERS),localhost:9092) --topic $$topic"; \
		if [ -n "$(BROKERS)" ]; then $$generate --brokers "$(BROKERS)" --topic "$$topic"; fi; \
	done
	@if [ -z "$(BROKERS)" ]; then echo; \
		echo "To run the second now: make bench-produce BROKERS=localhost:9092 [PLATFORM=apns|gcm] [TOPIC=...] [COUNT=...]"; fi

##@ Housekeeping
clean: ## remove what was built (Kafka's jars stay in the user's cache)
	$(CARGO) clean

deps-build:
	@tools/deps check build

deps-test:
	@tools/deps check build test

.PHONY: help deps demo build release release-tools sbom docker docker-multi chart test test-fast test-page check kafka chaos fuzz bench bench-quick profile bench-lanes bench-memory bench-quota bench-listener bench-produce clean deps-build deps-test
