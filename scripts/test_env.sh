#!/bin/sh
# Tests the lab that env_ipv4.sh or env_ipv6.sh built: ping, the multicast route and, if it is built, kstamp.
set -eu
cd "$(dirname "$0")"
exec cargo xtask lab test
