#!/usr/bin/env bash
# A Kafka for this machine, without containers: one KRaft node out of its published jars, fetched with Maven.
#
#   docker/kafka.sh up        start it (fetches it the first time) and print KAFKA_BROKERS=host:port
#   docker/kafka.sh env       print the variables of one that runs, for eval
#   docker/kafka.sh status    print host:port of one that runs, nothing if none does
#   docker/kafka.sh stop      end it and keep its data
#   docker/kafka.sh kill      end it at once, as a crash would, and keep its data
#   docker/kafka.sh restart   stop, then up on the same data
#   docker/kafka.sh down      end it and delete its data (the jars stay)
#   docker/kafka.sh tool NAME ARGUMENTS
#                             run one of Kafka's command-line tools by its class's name, as ConfigCommand
#
# KAFKA_PORT     PLAINTEXT port on 127.0.0.1 (9092)
# TLS=1          also SSL on the next port and SASL_SSL (SCRAM and PLAIN) on the one after, with certificates and a
#                password made here; needs openssl
# STREAM_STATE   where its data is kept (target), in the folder kafka
# KAFKA_JARS     where the jars are kept (target/kafka-jars)
# KAFKA_VERSION  version to run (4.1.0)      KAFKA_HEAP  JVM memory (-Xms256m -Xmx512m)
# KAFKA_EXTRA    further lines for server.properties
# KAFKA_PROXIED  LISTEN:ADVERTISED, two ports: one more plain listener, whose clients are told to come back by the second
#                port, where a proxy to the first one is
# KAFKA_JOIN     port of the controller of another one that runs (its KAFKA_PORT + 3): this one is its second broker
#
# Exit code 3: something to run it with is missing (Java 17, Maven, openssl). Needs bash, nothing of this needs root.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
port=${KAFKA_PORT:-9092}
version=${KAFKA_VERSION:-4.1.0}
tls=${TLS:-}
proxied=${KAFKA_PROXIED:-}
join=${KAFKA_JOIN:-}
state=${STREAM_STATE:-$root/target}
mkdir -p "$state/kafka"
dir=$(cd "$state/kafka" && pwd)
jars=${KAFKA_JARS:-$root/target/kafka-jars}/$version
password=$dir/password
pidfile=$dir/kafka.pid
log=$dir/kafka.log
conf=$dir/server.properties

say() { printf '%s\n' "$*" >&2; }
die() {
  local code=$1
  shift
  say "kafka.sh: $*"
  exit "$code"
}

case ${join:-0} in *[!0-9]*) die 2 "KAFKA_JOIN=$join is no port" ;; esac
case $port in '' | *[!0-9]*) die 2 "KAFKA_PORT=$port is no port" ;; esac
case ${proxied:-0:0} in
  *[!0-9:]* | :* | *: | *:*:*) die 2 "KAFKA_PROXIED=$proxied is not LISTEN:ADVERTISED" ;;
  *:*) ;;
  *) die 2 "KAFKA_PROXIED=$proxied is not LISTEN:ADVERTISED" ;;
esac

# --- what it runs with -------------------------------------------------------------------------------------------

find_java() {
  java=java
  [ -n "${JAVA_HOME:-}" ] && [ -x "$JAVA_HOME/bin/java" ] && java=$JAVA_HOME/bin/java
  command -v "$java" > /dev/null || die 3 "Java is missing: install a JRE of version 17 or newer (or set JAVA_HOME)"
  local major
  major=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [ "${major:-0}" -ge 17 ] || die 3 "Java ${major:-of unknown version} is too old: Kafka $version needs 17 or newer"
}

fetch() {
  [ -f "$jars/.complete" ] && return 0
  command -v mvn > /dev/null || die 3 "Maven (mvn) is missing: it fetches Kafka's jars"
  # One at a time, for Maven's own folder, too. A lock whose process is gone is nobody's.
  local lock=$jars.lock
  mkdir -p "${jars%/*}"
  until mkdir "$lock" 2> /dev/null; do
    sleep 1
    [ -f "$jars/.complete" ] && return 0
    kill -0 "$(cat "$lock/pid" 2> /dev/null || echo $$)" 2> /dev/null || rm -rf "$lock"
  done
  trap 'rm -rf "$jars.lock"' EXIT
  printf '%s\n' $$ > "$lock/pid"
  [ -f "$jars/.complete" ] && return 0
  say "fetching Kafka $version (about 130 MB, once) ..."
  # Into place in one step: a fetch that is cut short leaves nothing half done.
  local part=$jars.part
  rm -rf "$part" "$jars"
  mkdir -p "$part"
  cat > "$part/pom.xml" << POM
<project><modelVersion>4.0.0</modelVersion>
  <groupId>stream</groupId><artifactId>kafka-run</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.1</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.25.1</version></dependency>
  </dependencies>
</project>
POM
  mvn -q -B -f "$part/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$part" > "$dir/mvn.log" 2>&1 || {
    tail -n 15 "$dir/mvn.log" >&2
    die 1 "Maven could not fetch Kafka $version; its output is in $dir/mvn.log"
  }
  touch "$part/.complete"
  mv "$part" "$jars"
}

# --- its process -------------------------------------------------------------------------------------------------

# The pid of the broker that this script started, if it still runs. A pid file that outlived its process may name
# somebody else's by now: only one that runs on our configuration is ours.
our_pid() {
  local pid
  pid=$(cat "$pidfile" 2> /dev/null) || return 1
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  ps -p "$pid" -o args= 2> /dev/null | grep -qF -- "$conf" || return 1
  printf '%s' "$pid"
}

taken() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

end() {
  local pid
  if pid=$(our_pid); then
    kill "$pid" 2> /dev/null || true
    for _ in $(seq 1 300); do
      our_pid > /dev/null || break
      sleep 0.1
    done
    if our_pid > /dev/null; then
      say "it does not end by itself: killed"
      kill -9 "$pid" 2> /dev/null || true
    fi
    say "Kafka (pid $pid) ended"
  else
    say "no Kafka of ours runs"
  fi
  rm -f "$pidfile"
}

# --- its configuration -------------------------------------------------------------------------------------------

certificates() {
  local t=$dir/tls
  [ -s "$t/server.pem" ] && return 0
  command -v openssl > /dev/null || die 3 "openssl is missing: it makes the certificates for TLS=1"
  mkdir -p "$t"
  # Each step by &&: where a failure is asked about, set -e does not hold.
  (
    umask 077
    cd "$t" && {
      openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=stream test CA" -keyout ca.key -out ca.pem &&
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' > server.ext &&
        openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr &&
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile server.ext \
          -out server.crt &&
        openssl pkcs8 -topk8 -nocrypt -in server.key -out server.p8
    } > openssl.log 2>&1 &&
      # Kafka reads PEM stores itself: key, certificate and chain in one file.
      cat server.p8 server.crt ca.pem > server.part &&
      mv server.part server.pem
  ) || {
    cat "$t/openssl.log" >&2 || true
    die 1 "the certificates could not be made"
  }
}

# The one it had before if that is free, else the next free port that is none of the others.
controller_port() {
  local candidate
  candidate=$(sed -n 's/^controller.quorum.voters=1@127.0.0.1:\([0-9]*\)$/\1/p' "$conf" 2> /dev/null || true)
  if [ -z "$candidate" ] || [ "$candidate" -eq "$port" ] || [ "$candidate" -eq $((port + 1)) ] ||
    [ "$candidate" -eq $((port + 2)) ] || taken "$candidate"; then
    candidate=$((port + 3))
    while [ "$candidate" = "${proxied%:*}" ] || taken "$candidate"; do candidate=$((candidate + 1)); done
  fi
  printf '%s' "$candidate"
}

configure() {
  local controller=$1 listeners advertised protocols
  listeners=PLAINTEXT://127.0.0.1:$port
  protocols=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
  if [ -n "$tls" ]; then
    certificates
    [ -s "$password" ] || (umask 077 && openssl rand -hex 16 > "$password")
    listeners=$listeners,SSL://127.0.0.1:$((port + 1)),SASL_SSL://127.0.0.1:$((port + 2))
    protocols=$protocols,SSL:SSL,SASL_SSL:SASL_SSL
  fi
  advertised=$listeners
  if [ -n "$proxied" ]; then
    listeners=$listeners,PROXIED://127.0.0.1:${proxied%:*}
    advertised=$advertised,PROXIED://127.0.0.1:${proxied#*:}
    protocols=$protocols,PROXIED:PLAINTEXT
  fi
  local roles=broker,controller node=1
  if [ -n "$join" ]; then
    roles=broker node=2 controller=$join
  else
    listeners=$listeners,CONTROLLER://127.0.0.1:$controller
  fi
  cat > "$conf" << PROPERTIES
process.roles=$roles
node.id=$node
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=$protocols
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# One node, and nobody to wait for; tests should not wait for what is a background matter in production either.
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
  if [ -n "$tls" ]; then
    cat >> "$conf" << PROPERTIES
ssl.keystore.type=PEM
ssl.keystore.location=$dir/tls/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$dir/tls/ca.pem
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_stream="$(cat "$password")";
PROPERTIES
  fi
  printf '%s\n' "${KAFKA_EXTRA:-}" >> "$conf"
  cat > "$dir/log4j2.xml" << XML
<Configuration status="WARN"><Appenders><Console name="c"><PatternLayout pattern="%d %p %c{1} %m%n"/></Console></Appenders>
<Loggers><Root level="${KAFKA_LOG:-INFO}"><AppenderRef ref="c"/></Root></Loggers></Configuration>
XML
}

# --- commands ----------------------------------------------------------------------------------------------------

env_of() {
  local listeners
  listeners=$(sed -n 's/^advertised.listeners=//p' "$conf")
  printf '%s\n' "$listeners" | tr ',' '\n' | sed -n \
    -e 's|^PLAINTEXT://|KAFKA_BROKERS=|p' \
    -e 's|^SSL://127.0.0.1:|KAFKA_BROKERS_SSL=localhost:|p' \
    -e 's|^SASL_SSL://127.0.0.1:|KAFKA_BROKERS_SASL_SSL=localhost:|p'
  case $listeners in
    *SSL*) printf 'KAFKA_CA=%s\nKAFKA_SASL_USER=stream\nKAFKA_SASL_PASSWORD=%s\n' "$dir/tls/ca.pem" "$(cat "$password")" ;;
  esac
}

up() {
  local pid p
  if pid=$(our_pid); then
    say "Kafka runs already (pid $pid)"
    env_of
    return 0
  fi
  find_java
  for p in "$port" ${tls:+$((port + 1)) $((port + 2))}; do
    taken "$p" && die 1 "port $p on 127.0.0.1 is taken by another program; set KAFKA_PORT to a free one"
  done
  fetch
  configure "$(controller_port)"
  local classes="$jars/*" options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$dir/log4j2.xml")
  if [ ! -f "$dir/data/meta.properties" ]; then
    rm -rf "$dir/data"
    "$java" -Xmx256m "${options[@]}" -cp "$classes" kafka.tools.StorageTool format -t c3RyZWFtLWxvY2FsLTAwMQ \
      -c "$conf" ${tls:+--add-scram "SCRAM-SHA-256=[name=stream,password=$(cat "$password")]"} \
      ${tls:+--add-scram "SCRAM-SHA-512=[name=stream,password=$(cat "$password")]"} > "$dir/format.log" 2>&1 || {
      tail -n 10 "$dir/format.log" >&2
      die 1 "the data folder could not be made"
    }
    printf '%s' "$tls" > "$dir/scram"
  elif [ -n "$tls" ] && [ ! -s "$dir/scram" ]; then
    say "its data was made without TLS=1, so that nobody can log in by SCRAM: docker/kafka.sh down deletes it"
  fi
  # Out of this terminal's process group, so that its Ctrl-C does not reach the broker.
  local detach=nohup heap
  command -v setsid > /dev/null && detach=setsid
  read -r -a heap <<< "${KAFKA_HEAP:--Xms256m -Xmx512m}"
  "$detach" "$java" "${heap[@]}" "${options[@]}" -cp "$classes" kafka.Kafka "$conf" > "$log" 2>&1 < /dev/null &
  pid=$!
  printf '%s\n' "$pid" > "$pidfile"
  for _ in $(seq 1 600); do
    if grep -q 'Kafka Server started' "$log"; then
      say "Kafka $version runs (pid $pid, log $log)"
      env_of
      return 0
    fi
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
  done
  tail -n 15 "$log" >&2
  end
  die 1 "Kafka did not start; its log is $log"
}

case ${1:-} in
  up) up ;;
  env)
    our_pid > /dev/null || die 1 "no Kafka of ours runs: docker/kafka.sh up"
    env_of
    ;;
  stop) end ;;
  kill)
    pid=$(our_pid) || die 1 "no Kafka of ours runs"
    kill -9 "$pid"
    # Its threads end one by one: the last of them holds the ports.
    for _ in $(seq 1 400); do
      our_pid > /dev/null || taken "$port" || break
      sleep 0.05
    done
    rm -f "$pidfile"
    ;;
  restart)
    end
    up
    ;;
  down)
    end
    rm -rf "$dir/data" "$dir/tls" "$dir/scram" "$password"
    ;;
  tool)
    name=${2:?the name of a tool}
    shift 2
    find_java
    fetch
    # Releases moved them from one package to the other.
    for package in org.apache.kafka.tools kafka.admin; do
      "$java" --dry-run -cp "$jars/*" "$package.$name" > /dev/null 2>&1 || continue
      exec "$java" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars/*" "$package.$name" "$@"
    done
    die 2 "Kafka $version has no tool $name"
    ;;
  status)
    our_pid > /dev/null && env_of | sed -n 's/^KAFKA_BROKERS=//p' || true
    ;;
  *)
    sed -n '2,13p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
