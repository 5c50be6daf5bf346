#!/bin/sh
# Tests the environment that env_ipv4.sh or env_ipv6.sh built: ping, the way that multicast takes, and kstamp if it is built.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$HERE/lib.sh"

need_root
for name in agent1 agent2; do
    [ -e "/run/netns/$name" ] || die "no environment: build one with scripts/env_ipv4.sh"
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
families=
if ip -n agent1 addr show dev port1 | grep -q 10.1.1.5; then families="$families v4"; fi
if ip -n agent1 addr show dev port1 | grep -q fd01:2345:6789:abc1::5; then families="$families v6"; fi
[ -n "$families" ] || die "port1 has none of the known addresses"

kstamp=${CARGO_TARGET_DIR:-$HERE/../target}/release/kstamp
for family in $families; do
    case $family in
    v4) near=10.1.1.5 far=10.1.1.6 group=239.255.255.250 ;;
    v6) near=fd01:2345:6789:abc1::5 far=fd01:2345:6789:abc1::6 group=ff0e::10 ;;
    esac
    echo "== ping $family"
    ip netns exec agent1 ping -n -c 3 -i 0.2 -W 1 "$far"
    ip netns exec agent2 ping -n -q -c 3 -i 0.2 -W 1 "$near"
    echo "== route to group $group"
    for i in 1 2; do
        ip -n agent$i route get "$group" | grep -q "dev port$i" || die "agent$i does not send $group by port$i"
        ip -n agent$i route get "$group" | head -1
    done
    if [ -x "$kstamp" ]; then
        echo "== kstamp $family"
        ip netns exec agent2 "$kstamp" agent --iface port2 --family "$family" --duration 10s >"$log" 2>&1 &
        far_agent=$!
        ip netns exec agent1 "$kstamp" agent --iface port1 --family "$family" --duration 5s ||
            { cat "$log" >&2; die "kstamp failed in agent1"; }
        kill $far_agent 2>/dev/null || true
        wait $far_agent || { cat "$log" >&2; die "kstamp failed in agent2"; }
    else
        echo "== no $kstamp: cargo build --release -p probe-user builds it"
    fi
done
echo "== all is well"
