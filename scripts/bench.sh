#!/usr/bin/env bash
# Compares a three-node cluster with what it stands beside, in one run on one machine: server CPU per
# operation, over all processes, and operations per second. Needs redis-benchmark and redis-server.
#
#   scripts/bench.sh memory     engine = memory beside a bare echo cluster: set FLOOR to its program
#   scripts/bench.sh durable    engine = fjall beside its bare committer and redis with appendfsync always
#
# REQUESTS (default 300000), SIZE (1024), CLIENTS ("32 128"), ROUNDS (3) and GRAMME (target/release/gramme)
# may be set.
set -euo pipefail
cd "$(dirname "$0")/.."

REQUESTS=${REQUESTS:-300000}
SIZE=${SIZE:-1024}
CLIENTS=${CLIENTS:-32 128}
ROUNDS=${ROUNDS:-3}
GRAMME=${GRAMME:-target/release/gramme}
work=$(mktemp -d)
servers=()

stop_servers() {
  for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${servers[@]}"; do wait "$pid" 2>/dev/null || true; done
  servers=()
}
trap 'stop_servers; rm -rf "$work"' EXIT

# Processor ticks that these processes and their children have used.
ticks() {
  local total=0 pid
  for pid in "$@"; do
    total=$((total + $(awk '{print $14 + $15}' "/proc/$pid/stat")))
  done
  echo "$total"
}

processes() {
  local pid
  for pid in "${servers[@]}"; do echo "$pid"; pgrep -P "$pid" || true; done
}

# A write that is answered shows that the nodes have found each other.
wait_for_port() {
  until [ "$(redis-cli -p "$1" set ready 1 2>&1)" = OK ]; do read -rt 0.05 <> <(:) || true; done
}

# One line: name, command, clients, operations per second, p50 and p99 in ms, server CPU in us per operation.
measure() {
  local name=$1 port=$2 command=$3 clients=$4 before after hz rps p50 p99 pids
  mapfile -t pids < <(processes)
  hz=$(getconf CLK_TCK)
  before=$(ticks "${pids[@]}")
  redis-benchmark -p "$port" -t "$command" -n "$REQUESTS" -d "$SIZE" -r 100000 -c "$clients" --csv 2>/dev/null |
    tr -d '"' | awk -F, 'NR == 2 {print $2, $5, $7}' >"$work/result"
  after=$(ticks "${pids[@]}")
  read -r rps p50 p99 <"$work/result"
  awk -v n="$name" -v c="$command" -v k="$clients" -v r="$rps" -v a="$p50" -v b="$p99" \
    -v t="$((after - before))" -v hz="$hz" -v q="$REQUESTS" \
    'BEGIN {printf "%-10s %-4s %4d clients %8.0f ops/s  p50 %7.3f ms  p99 %7.3f ms  %6.1f us/op\n", n, c, k, r, a, b, t / hz * 1e6 / q}'
}

start_gramme() {
  "$GRAMME" dev --dir "$work/gramme-$1" --engine "$1" --port 17400 >"$work/gramme.log" 2>&1 &
  servers+=($!)
  wait_for_port 17401
}

start_floor() {
  local i
  for i in 1 2 3; do
    local peers=()
    for j in 1 2 3; do [ "$i" = "$j" ] || peers+=("127.0.0.1:1751$j"); done
    "$FLOOR" "127.0.0.1:1750$i" "127.0.0.1:1751$i" "${peers[@]}" >/dev/null 2>&1 &
    servers+=($!)
  done
  wait_for_port 17501
}

case ${1:-} in
  memory)
    : "${FLOOR:?set FLOOR to the bare echo cluster program}"
    for round in $(seq "$ROUNDS"); do
      for clients in $CLIENTS; do
        for system in floor gramme; do
          case $system in
            floor) start_floor; port=17501 ;;
            gramme) start_gramme memory; port=17401 ;;
          esac
          # Every key exists before anything is measured, so that neither is charged for growing.
          redis-benchmark -p $port -t set -n 400000 -d "$SIZE" -r 100000 -c 64 -q >/dev/null 2>&1
          for command in set get; do measure $system $port $command "$clients"; done
          stop_servers
          rm -rf "$work/gramme-memory"
        done
      done
    done
    ;;
  durable)
    for round in $(seq "$ROUNDS"); do
      cargo run -q --release -p gramme-storage --example committer -- --dir "$work/committer-$round" --writers 128 --ops "$REQUESTS"
      start_gramme fjall
      measure gramme 17401 set 128
      stop_servers
      rm -rf "$work/gramme-fjall"
      redis-server --port 17601 --appendonly yes --appendfsync always --save '' --dir "$work" >/dev/null &
      servers+=($!)
      wait_for_port 17601
      measure redis 17601 set 128
      stop_servers
      rm -rf "$work/appendonlydir"
    done
    ;;
  *)
    sed -n '2,9p' "$0"
    exit 2
    ;;
esac
