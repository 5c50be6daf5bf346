#!/bin/sh
# Makes two network namespaces joined by a veth pair, answers in one, runs a command in the other, removes both.
#   sudo sh examples/two_namespaces.sh [COMMAND ...]
# Without a command it pings the reflector with kstamp.
set -eu

kstamp=${KSTAMP:-$(dirname "$0")/../target/release/kstamp}
near=kstamp-near-$$ far=kstamp-far-$$
near_address=10.77.0.1 far_address=10.77.0.2

[ "$(id -u)" = 0 ] || { echo "namespaces need root: sudo sh $0" >&2; exit 1; }
[ -x "$kstamp" ] || { echo "no $kstamp: cargo build --release -p probe-user builds it, or set KSTAMP" >&2; exit 1; }

clean() {
    [ -z "${reflector:-}" ] || kill "$reflector" 2>/dev/null || true
    wait
    ip netns del "$near" 2>/dev/null || true
    ip netns del "$far" 2>/dev/null || true
}
trap clean EXIT
trap 'exit 130' INT TERM

ip netns add "$near"
ip netns add "$far"
ip link add port1 netns "$near" type veth peer name port2 netns "$far"
ip -n "$near" address add "$near_address/24" dev port1
ip -n "$far" address add "$far_address/24" dev port2
ip -n "$near" link set port1 up
ip -n "$far" link set port2 up

ip netns exec "$far" "$kstamp" reflect --iface port2 --format jsonl >/dev/null &
reflector=$!
# It answers once it is attached.
ip netns exec "$near" "$kstamp" ping "$far_address" --port 1910 --count 20 --interval 100ms >/dev/null

[ $# -gt 0 ] || set -- "$kstamp" ping "$far_address" --port 1910 --count 5 --interval 200ms
ip netns exec "$near" "$@"
