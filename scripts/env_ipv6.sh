#!/bin/sh
# Builds the environment by hand, with IPv6 addresses: env_ipv6.sh [patch|vxlan|delay]
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$HERE/lib.sh"

need_root
build "${1:-patch}"
address fd01:2345:6789:abc1:: 64 nodad
# Multicast needs no route of its own here: ff00::/8 is on every IPv6 interface.
wait_for fd01:2345:6789:abc1::6
echo "agent1: port1 fd01:2345:6789:abc1::5; agent2: port2 ::6; scripts/test_env.sh tests it, scripts/clean.sh removes it"
