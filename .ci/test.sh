#!/usr/bin/env bash
# Every test that this machine allows. Says at the end, loudly, what did not run; fails if anything failed.
# REQUIRE_KAFKA=1 makes a missing Kafka a failure. STREAM_TEST_REGISTRY=URL adds the tests on a real schema registry.
# STREAM_TEST_POSTGRES=URL is the database for the tests on a real Postgres; else one is started where initdb and postgres are.
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra cargo <<< "${CARGO:-cargo}"
features=${FEATURES:-avro,testing} tls=
# TLS needs the OpenSSL headers to build, and openssl to make certificates.
if command -v openssl >/dev/null && pkg-config --exists openssl 2>/dev/null; then tls=1 features=$features,tls; fi
# One selection of packages, features and targets for all of it: with another, cargo builds much of it a second time.
read -ra flags <<< "${CARGO_FLAGS:-} --workspace --features $features"
# Most of the time they wait, for sessions and outages: more threads than processors, on a real Kafka even more.
threads=${TEST_THREADS:-8}
kafka="tests on a real Kafka"
# Its tests are #[ignore]d as those on a real Kafka are; told apart by this part of their name.
registry=real_registry postgres=real_postgres
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

# tests WORDS...: all test binaries, with these words of libtest's.
tests() { "${cargo[@]}" test "${flags[@]}" --tests --no-fail-fast -- --test-threads "$threads" "$@"; }

# The folder of its package, and a test binary, of all of them.
binaries() {
  "${cargo[@]}" test "${flags[@]}" --tests --no-run --message-format json 2> /dev/null |
    sed -n 's/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1 \2/p' | sort
}

# lane core|systems WORDS...: the test binaries of stream-core, or of the others, one after the other.
lane() {
  local which=$1 code=0 ran=0 dir binary of
  shift
  while read -r dir binary; do
    of=systems
    if [[ $dir == */stream-core ]]; then of=core; fi
    if [ $of != "$which" ]; then continue; fi
    ran=$((ran + 1))
    echo "     Running $binary"
    (cd "$dir" && "$binary" --test-threads "$threads" "$@") || { echo "FAILED: $binary"; code=1; }
  done <<< "$binaries"
  if [ $ran = 0 ]; then echo "no test binary found"; return 1; fi
  return $code
}

# The tests of stream-core and of the systems side by side: they wait most of the time, each for something else.
side_by_side() {
  local code=0 out systems binaries
  binaries=$(binaries) out=$(mktemp)
  lane systems "$@" > "$out" 2>&1 & systems=$!
  lane core "$@" || code=1
  wait $systems || code=1
  cat "$out"
  rm "$out"
  return $code
}

free_ports() {
  local port p
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 10000))
    for p in "$port" $((port + 1)) $((port + 2)); do
      if (: < "/dev/tcp/127.0.0.1/$p") 2>/dev/null; then continue 2; fi
    done
    echo "$port"
    return
  done
  echo "no free port found" >&2
  return 1
}

# A Kafka of these tests' own. It ends with them, however they end, and all its data goes.
kafka_tests() {
  local code=0 out
  STREAM_STATE=$(mktemp -d) KAFKA_PORT=$(free_ports)
  export STREAM_STATE KAFKA_PORT
  trap 'docker/kafka.sh down; rm -rf "$STREAM_STATE"; stop_postgres' EXIT
  out=$(TLS=$tls docker/kafka.sh up) || code=$?
  if [ $code = 3 ]; then
    missing+=("$kafka (what is needed for them is said above)")
    return 0
  elif [ $code != 0 ]; then
    failed+=("start a Kafka for the tests")
    return 0
  fi
  printed() { sed -n "s/^$1=//p" <<< "$out"; }
  export STREAM_TEST_KAFKA STREAM_TEST_KAFKA_SSL STREAM_TEST_KAFKA_SASL_SSL
  export STREAM_TEST_KAFKA_CA STREAM_TEST_KAFKA_USER STREAM_TEST_KAFKA_PASSWORD
  STREAM_TEST_KAFKA=$(printed KAFKA_BROKERS)
  STREAM_TEST_KAFKA_SSL=$(printed KAFKA_BROKERS_SSL) STREAM_TEST_KAFKA_SASL_SSL=$(printed KAFKA_BROKERS_SASL_SSL)
  STREAM_TEST_KAFKA_CA=$(printed KAFKA_CA) STREAM_TEST_KAFKA_USER=$(printed KAFKA_SASL_USER)
  STREAM_TEST_KAFKA_PASSWORD=$(printed KAFKA_SASL_PASSWORD)
  threads=$((threads * 3 / 2))
  step "$kafka" side_by_side --ignored --skip "$registry" --skip "$postgres" --skip many_seeds --skip kafka_chaos --skip kafka_kill || true
  threads=$((threads * 2 / 3))
  step "tests that kill processes on a real Kafka" tests --ignored kafka_chaos kafka_kill || true
}

registry_tests() {
  if [ -z "${STREAM_TEST_REGISTRY:-}" ]; then
    missing+=("tests on a real schema registry (they need STREAM_TEST_REGISTRY=URL)")
    return 0
  fi
  step "tests on a real schema registry" tests --ignored "$registry" || true
}

# A Postgres of these tests' own, as far from the machine's as can be: other files, another port, no socket.
start_postgres() {
  local code=0 out
  postgres_state=$(mktemp -d)
  # It may run as another user.
  chmod 711 "$postgres_state"
  out=$(STREAM_STATE=$postgres_state POSTGRES_PORT=$(free_ports) docker/postgres.sh up) || code=$?
  if [ $code = 0 ]; then
    export STREAM_TEST_POSTGRES=${out#DATABASE_DSN=}
  elif [ $code != 3 ]; then
    failed+=("start a Postgres for the tests")
  fi
  return $code
}

stop_postgres() {
  if [ -z "${postgres_state:-}" ]; then return 0; fi
  STREAM_STATE=$postgres_state docker/postgres.sh down
  rm -rf "$postgres_state"
  postgres_state=
}

postgres_tests() {
  if [ -z "${STREAM_TEST_POSTGRES:-}" ] && ! start_postgres; then
    missing+=("tests on a real Postgres (they need its binaries initdb and postgres, or STREAM_TEST_POSTGRES=URL)")
    return 0
  fi
  step "tests on a real Postgres" tests --ignored "$postgres" || true
}

if ! step "build" "${cargo[@]}" test "${flags[@]}" --tests --no-run; then exit 1; fi
step "tests without Kafka" tests || true
step "examples of the docs" "${cargo[@]}" test "${flags[@]}" --doc || true
trap stop_postgres EXIT
postgres_tests
kafka_tests
registry_tests
if [ -z "$tls" ]; then missing+=("tests of TLS and SASL to Kafka (they need openssl and its headers, found by pkg-config)"); fi

echo
for what in ${missing[@]+"${missing[@]}"}; do
  echo "NOT RUN: $what"
  if [ "${REQUIRE_KAFKA:-}" = 1 ] && [[ $what == "$kafka "* ]]; then failed+=("REQUIRE_KAFKA=1, but there is no Kafka"); fi
done
for what in ${failed[@]+"${failed[@]}"}; do echo "FAILED: $what"; done
if [ ${#failed[@]} -gt 0 ]; then exit 1; fi
echo "ok: everything else ran and passed, in $SECONDS s"
