#!/usr/bin/env bash
# A Postgres for this machine, without containers: of the binaries that are installed, on files and a port of its own.
#
#   docker/postgres.sh up        start it and print DATABASE_DSN=postgres://...
#   docker/postgres.sh status    print the URL of one that runs, nothing if none does
#   docker/postgres.sh restart   end it, cutting all connections, and start it on the same data
#   docker/postgres.sh kill      end it at once, as a crash would, and start it on the same data
#   docker/postgres.sh down      end it and delete its data
#
# POSTGRES_PORT  port on 127.0.0.1 (5433)
# STREAM_STATE   where its data is kept (target), in the folder postgres
#
# Anyone on this machine may log in: it is for tests and trials. As root it runs as the user postgres, for it refuses root.
# Exit code 3: something to run it with is missing (initdb and postgres, as root also that user and setpriv).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
port=${POSTGRES_PORT:-5433}
state=${STREAM_STATE:-$root/target}
mkdir -p "$state/postgres"
dir=$(cd "$state/postgres" && pwd)
log=$dir/log
as=()

say() { printf '%s\n' "$*" >&2; }
die() {
  local code=$1
  shift
  say "postgres.sh: $*"
  exit "$code"
}

case $port in '' | *[!0-9]*) die 2 "POSTGRES_PORT=$port is no port" ;; esac

find_binaries() {
  bin=$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2> /dev/null | sort -V | tail -n 1) || true
  [ -n "$bin" ] && [ -x "${bin%/*}/postgres" ] || die 3 "initdb and postgres are missing: install a Postgres server"
  bin=${bin%/*}
  [ "$(id -u)" = 0 ] || return 0
  id postgres > /dev/null 2>&1 || die 3 "Postgres does not run as root, and there is no user postgres"
  command -v setpriv > /dev/null || die 3 "setpriv is missing: it runs Postgres as another user than root"
  as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
}

# The pid of the server on our data, if it runs.
our_pid() {
  local pid
  pid=$(head -n 1 "$dir/data/postmaster.pid" 2> /dev/null) || return 1
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  ps -p "$pid" -o args= 2> /dev/null | grep -qF -- "$dir/data" || return 1
  printf '%s' "$pid"
}

url() { sed -n 's/^port = \([0-9]*\)$/postgres:\/\/postgres@127.0.0.1:\1\/postgres/p' "$dir/data/stream.conf"; }

start() {
  local pid
  (cd / && exec ${as[@]+"${as[@]}"} "$bin/postgres" -D "$dir/data") > "$log" 2>&1 < /dev/null &
  pid=$!
  for _ in $(seq 300); do
    if grep -q "ready to accept connections" "$log"; then
      say "Postgres runs (log $log)"
      return 0
    fi
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
  done
  tail -n 15 "$log" >&2
  die 1 "Postgres did not start; its log is $log"
}

# end SIGNAL
end() {
  local pid
  pid=$(our_pid) || return 0
  kill "-$1" "$pid" 2> /dev/null || true
  for _ in $(seq 300); do
    kill -0 "$pid" 2> /dev/null || return 0
    sleep 0.1
  done
  die 1 "Postgres (pid $pid) does not end"
}

up() {
  if ! our_pid > /dev/null; then
    find_binaries
    if (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
      die 1 "port $port on 127.0.0.1 is taken by another program; set POSTGRES_PORT to a free one"
    fi
    if [ ! -f "$dir/data/stream.conf" ]; then
      rm -rf "$dir/data"
      mkdir "$dir/data"
      if [ ${#as[@]} -gt 0 ]; then
        chown postgres "$dir/data"
        (cd / && "${as[@]}" test -w "$dir/data") \
          || die 1 "the user postgres can't reach $dir/data: set STREAM_STATE to a folder that everybody may enter"
      fi
      (cd / && ${as[@]+"${as[@]}"} "$bin/initdb" -D "$dir/data" -U postgres --auth=trust -E UTF8 --locale=C --no-sync) \
        > "$log" 2>&1 || {
        cat "$log" >&2
        die 1 "the data folder could not be made"
      }
      # What a crash of the machine would lose, a trial can lose.
      printf '%s\n' "listen_addresses = '127.0.0.1'" "port = $port" "unix_socket_directories = ''" "fsync = off" \
        > "$dir/data/stream.conf"
      echo "include 'stream.conf'" >> "$dir/data/postgresql.conf"
    fi
    start
  fi
  printf 'DATABASE_DSN=%s\n' "$(url)"
}

case ${1:-} in
  up) up ;;
  status) our_pid > /dev/null && url || true ;;
  restart | kill)
    our_pid > /dev/null || die 1 "no Postgres of ours runs: docker/postgres.sh up"
    find_binaries
    if [ "$1" = kill ]; then end QUIT; else end INT; fi
    start
    ;;
  down)
    end INT
    rm -rf "$dir/data"
    ;;
  *)
    sed -n '2,8p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
