#!/usr/bin/env bash
# A Kafka on this machine: one broker, no security, for trying things and for tests. Needs Java 17 or newer, and Maven
# the first time, for the jars; or Docker, where there is no Java.
set -euo pipefail

usage() {
  cat <<'TEXT'
docker/kafka.sh up|down|start|stop|wipe|status

  up      start a broker, wait until it is ready, say how to use it
  down    stop it; its data stays
  start   as up, but silent
  stop    as down, but silent
  wipe    stop it and remove its data
  status  print HOST:PORT if it runs, else nothing (exit code 1)

  KAFKA_PORT   where it listens; default 9092. The port below by 2 is taken, too.
  KAFKA_NAME   a name for its files, so that several can run; default kafka
  KAFKA_STATE  where its data, logs and jars lie; default ~/.cache/stream-core
TEXT
}

VERSION=4.1.0
PORT=${KAFKA_PORT:-9092}
NAME=${KAFKA_NAME:-kafka}
STATE=${KAFKA_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/stream-core}
JARS=${KAFKA_JARS:-${XDG_CACHE_HOME:-$HOME/.cache}/stream-core/kafka-$VERSION}
DIR=$STATE/$NAME
PID=$DIR/pid
LOG=$DIR/server.log
CONTAINER=stream-core-$NAME

die() { echo "kafka.sh: $*" >&2; exit 1; }

java_bin() { if [ -n "${JAVA_HOME:-}" ]; then echo "$JAVA_HOME/bin/java"; else command -v java; fi; }

# The major version, 0 without Java.
java_version() { { "$(java_bin)" -version 2>&1 || true; } | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -1; }

fetch_jars() {
  [ -f "$JARS/complete" ] && return
  command -v mvn >/dev/null || die "Maven is needed the first time, to fetch Kafka's jars: install it (Debian: apt install maven)"
  mkdir -p "$JARS"
  echo "fetching Kafka $VERSION from Maven Central (100 MB, once)" >&2
  cat > "$JARS/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-run</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.1</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.25.1</version></dependency>
  </dependencies>
</project>
XML
  mvn -q -B -f "$JARS/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$JARS" \
    > "$JARS/mvn.log" 2>&1 || { tail -5 "$JARS/mvn.log" >&2; die "Maven could not fetch the jars, see $JARS/mvn.log"; }
  touch "$JARS/complete"
}

configure() {
  mkdir -p "$DIR"
  cat > "$DIR/server.properties" <<TEXT
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((PORT - 2))
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$((PORT - 2))
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$DIR/data
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
TEXT
  cat > "$DIR/log4j2.xml" <<'XML'
<Configuration status="WARN">
  <Appenders><Console name="c"><PatternLayout pattern="%d %p %c{1} %m%n"/></Console></Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="c"/></Root></Loggers>
</Configuration>
XML
}

# The process is ours only if it is that Kafka: a pid may be another's by now.
running() { [ -f "$PID" ] && [[ $(ps -ww -p "$(cat "$PID")" -o args= 2>/dev/null) == *"$DIR/server.properties"* ]]; }

in_docker() { command -v docker >/dev/null && [ -n "$(docker ps -q -f "name=^$CONTAINER\$" 2>/dev/null)" ]; }

java_start() {
  fetch_jars
  configure
  local run=("$(java_bin)" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$DIR/log4j2.xml" -cp "$JARS/*")
  [ -f "$DIR/data/meta.properties" ] || "${run[@]}" -Xmx256m kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qk \
    -c "$DIR/server.properties" > "$DIR/format.log" 2>&1 || { tail -5 "$DIR/format.log" >&2; die "formatting $DIR failed"; }
  # A session of its own, so that a Ctrl-C here does not reach it. Nothing of ours stays open in it.
  local session=(); if command -v setsid >/dev/null; then session=(setsid); fi
  "${session[@]}" "${run[@]}" -Xms256m -Xmx512m kafka.Kafka "$DIR/server.properties" > "$LOG" 2>&1 < /dev/null &
  echo $! > "$PID"
  for _ in $(seq 600); do
    grep -q "Kafka Server started" "$LOG" && return
    running || { tail -5 "$LOG" >&2; die "the broker ended, see $LOG (is port $PORT in use?)"; }
    sleep 0.1
  done
  die "the broker was not ready within a minute, see $LOG"
}

java_stop() {
  running || { rm -f "$PID"; return 0; }
  kill "$(cat "$PID")"
  for _ in $(seq 300); do running || break; sleep 0.1; done
  if running; then kill -9 "$(cat "$PID")"; fi
  rm -f "$PID"
}

docker_start() {
  docker start "$CONTAINER" >/dev/null 2>&1 || docker run -d --name "$CONTAINER" -p "127.0.0.1:$PORT:$PORT" \
    -e KAFKA_NODE_ID=1 -e KAFKA_PROCESS_ROLES=broker,controller -e KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER \
    -e "KAFKA_LISTENERS=PLAINTEXT://:$PORT,CONTROLLER://:29093" -e "KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:$PORT" \
    -e KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT \
    -e KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:29093 -e KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 \
    -e KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1 -e KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1 \
    -e KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0 "apache/kafka:$VERSION" >/dev/null
  for _ in $(seq 600); do
    # To a file: grep -q at a pipe's end would break the pipe.
    docker logs "$CONTAINER" 2>&1 | grep "Kafka Server started" >/dev/null && return
    sleep 0.1
  done
  die "the container was not ready within a minute: docker logs $CONTAINER"
}

# Java where it is new enough, else Docker.
how() {
  local version; version=$(java_version)
  if [ "${version:-0}" -ge 17 ]; then echo java
  elif command -v docker >/dev/null; then echo docker
  else die "Java 17 or newer is needed (and Maven, once), or Docker; without either: make demo needs no Kafka"; fi
}

start() {
  case $(how) in
    java) running || java_start ;;
    docker) docker_start ;;
    *) exit 1 ;;
  esac
}

stop() {
  java_stop
  if command -v docker >/dev/null; then docker stop "$CONTAINER" >/dev/null 2>&1 || true; fi
}

case ${1:-} in
  up)
    start
    echo "Kafka listens on 127.0.0.1:$PORT; its files are in $DIR. Now:"
    echo "  export KAFKA_BROKERS=127.0.0.1:$PORT" ;;
  down) stop; echo "Kafka is stopped; its data stays in $DIR (docker/kafka.sh wipe removes it)" ;;
  start) start ;;
  stop) stop ;;
  wipe)
    stop
    if command -v docker >/dev/null; then docker rm -f "$CONTAINER" >/dev/null 2>&1 || true; fi
    rm -rf "$DIR" ;;
  status) { running || in_docker; } && echo "127.0.0.1:$PORT" ;;
  *) usage; exit 2 ;;
esac
