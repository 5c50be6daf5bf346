#!/bin/sh
# Builds a lab with IPv6 addresses: env_ipv6.sh [patch|vxlan|delay|…] [options of `cargo xtask lab up`]
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- patch
exec cargo xtask lab up --family v6 --topology "$@"
