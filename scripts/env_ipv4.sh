#!/bin/sh
# Builds the environment by hand, with IPv4 addresses: env_ipv4.sh [patch|vxlan|delay]
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$HERE/lib.sh"

need_root
build "${1:-patch}"
address 10.1.1. 24
for i in 1 2; do ip -n agent$i route add 224.0.0.0/4 dev port$i; done   # multicast
wait_for 10.1.1.6
echo "agent1: port1 10.1.1.5; agent2: port2 10.1.1.6; scripts/test_env.sh tests it, scripts/clean.sh removes it"
