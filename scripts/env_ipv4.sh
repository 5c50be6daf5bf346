#!/bin/sh
# Builds a lab with IPv4 addresses: env_ipv4.sh [patch|vxlan|delay|…] [options of `cargo xtask lab up`]
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- patch
exec cargo xtask lab up --family v4 --topology "$@"
