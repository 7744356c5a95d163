#!/usr/bin/env bash
# Every test that this machine allows. Says at the end, loudly, what did not run; fails if anything failed.
# REQUIRE_KAFKA=1 makes a missing Kafka a failure. STREAM_TEST_REGISTRY=URL adds the tests on a real schema registry.
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra cargo <<< "${CARGO:-cargo}"
read -ra flags <<< "${CARGO_FLAGS:-} --workspace --features ${FEATURES:-avro,testing}"
# Its tests are #[ignore]d as those on a real Kafka are; told apart by this part of their name.
registry=real_registry
failed=() missing=()

# step NAME COMMAND...: notes a failure; the caller goes on, so that one run shows all of them.
step() {
  local name=$1 began=$SECONDS; shift
  echo "==> $name"
  if "$@"; then echo "==> $name: ok, $((SECONDS - began)) s"; else
    echo "==> $name: FAILED, $((SECONDS - began)) s"
    failed+=("$name")
    return 1
  fi
}

java_version() { { java -version 2>&1 || true; } | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -1; }

free_port() {
  local port
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 10000))
    if ! (: < "/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  echo "no free port found" >&2
  return 1
}

# A Kafka of these tests' own. Removed with all its data, however they end.
kafka_tests() {
  local version; version=$(java_version)
  if [ "${version:-0}" -lt 17 ] || ! command -v mvn >/dev/null; then
    missing+=("real Kafka tests (they need Java 17 or newer, and Maven)")
    return 0
  fi
  STREAM_STATE=$(mktemp -d) KAFKA_PORT=$(free_port)
  export STREAM_STATE KAFKA_PORT STREAM_TEST_KAFKA=127.0.0.1:$KAFKA_PORT
  trap 'docker/kafka.sh down; rm -rf "$STREAM_STATE"' EXIT
  step "start a Kafka at $STREAM_TEST_KAFKA" docker/kafka.sh up || return 0
  step "tests on a real Kafka" "${cargo[@]}" test "${flags[@]}" --no-fail-fast -- --ignored --skip "$registry" || true
}

registry_tests() {
  if [ -z "${STREAM_TEST_REGISTRY:-}" ]; then
    missing+=("real schema registry tests (they need STREAM_TEST_REGISTRY=URL)")
    return 0
  fi
  step "tests on a real schema registry" "${cargo[@]}" test "${flags[@]}" --no-fail-fast -- --ignored "$registry" || true
}

step "tests without Kafka" "${cargo[@]}" test "${flags[@]}" --no-fail-fast || true
kafka_tests
registry_tests
missing+=("TLS and SASL to Kafka (they need the cargo feature tls, and a Kafka that speaks them)")

echo
for what in "${missing[@]}"; do
  echo "NOT RUN: $what"
  if [ "${REQUIRE_KAFKA:-}" = 1 ] && [[ $what == *"real Kafka tests"* ]]; then failed+=("REQUIRE_KAFKA=1, but there is no Kafka"); fi
done
for what in ${failed[@]+"${failed[@]}"}; do echo "FAILED: $what"; done
if [ ${#failed[@]} -gt 0 ]; then exit 1; fi
echo "ok: everything else ran and passed, in $SECONDS s"
