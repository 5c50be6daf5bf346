#!/bin/sh
# Removes the lab that env_ipv4.sh or env_ipv6.sh built.
set -eu
cd "$(dirname "$0")"
exec cargo xtask lab down
