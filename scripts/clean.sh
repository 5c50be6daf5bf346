#!/bin/sh
# Removes what env_ipv4.sh or env_ipv6.sh built, also half of it, and nothing else.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$HERE/lib.sh"

need_root
[ -e "$STATE" ] || { echo "nothing to remove"; exit 0; }
[ -e "$STATE/namespaces" ] || : >"$STATE/namespaces"

# Bridges first: a killed ovs-vswitchd leaves its devices behind.
while read -r name; do
    [ -S "$STATE/$name/db.sock" ] || continue
    [ -e "/run/netns/$name" ] || continue
    for bridge in $(vsctl "$name" list-br </dev/null); do vsctl "$name" del-br "$bridge" </dev/null || true; done
done <"$STATE/namespaces"

# Then what still runs in the namespaces, then the namespaces.
while read -r name; do
    [ -e "/run/netns/$name" ] || continue
    for signal in TERM KILL; do
        for pid in $(ip netns pids "$name"); do kill -$signal "$pid" 2>/dev/null || true; done
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            [ -n "$(ip netns pids "$name")" ] || break
            sleep 0.1
        done
    done
    ip netns delete "$name"
done <"$STATE/namespaces"
rm -rf "$STATE"
echo "removed"
