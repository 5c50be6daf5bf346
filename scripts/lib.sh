# shellcheck shell=sh
# What the scripts of this directory share: the same environments as `cargo xtask lab`, in plain shell.
#
# Names and addresses: namespaces agent1, agent2 (agent3 joins the two bridges of "delay", host1 and host2 are those
# of "vxlan", switch1 is where Open vSwitch runs otherwise); ports port1, port2; bridges ovs1, ovs2;
# 10.1.1.5, 10.1.1.6; fd01:2345:6789:abc1::5, ::6.

STATE=/run/kstamp-env

die() { echo "${0##*/}: $*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "needs root: run it with sudo"; }

# Nothing is touched if anything of these names is there already.
refuse_if_taken() {
    [ ! -e "$STATE" ] || die "an environment is up: scripts/clean.sh removes it"
    for name in "$@"; do
        [ ! -e "/run/netns/$name" ] ||
            die "namespace $name exists; a lab is up (cargo xtask lab down removes it) or it belongs to somebody else"
    done
}

# Whatever fails on the way, nothing is left.
clean_on_failure() {
    trap '[ $? = 0 ] || "$HERE/clean.sh" >&2' EXIT
    trap 'exit 130' INT TERM
}

# The kernel's datapath where the kernel has it, else the one inside ovs-vswitchd.
datapath() {
    modprobe -q openvswitch 2>/dev/null || true
    if [ -e /sys/module/openvswitch ]; then echo system; else echo netdev; fi
}

# Addresses are to be usable at once: no duplicate address detection, no router advertisements.
make_namespace() {
    echo "$1" >>"$STATE/namespaces"
    ip netns add "$1"
    ip -n "$1" link set lo up
    for key in all/accept_dad default/accept_dad default/dad_transmits all/accept_ra default/accept_ra; do
        ip netns exec "$1" sh -c "echo 0 >/proc/sys/net/ipv6/conf/$key"
    done
}

# The directory of the Open vSwitch instance that runs in a namespace, and its tools.
ovs() {
    namespace=$1; shift
    ip netns exec "$namespace" env OVS_RUNDIR="$STATE/$namespace" OVS_LOGDIR="$STATE/$namespace" \
        OVS_DBDIR="$STATE/$namespace" OVS_SYSCONFDIR="$STATE/$namespace" "$@"
}

vsctl() { namespace=$1; shift; ovs "$namespace" ovs-vsctl --db="unix:$STATE/$namespace/db.sock" --timeout=10 "$@"; }

# A private Open vSwitch instance in a namespace: the machine's own is not touched.
start_switch() {
    directory=$STATE/$1
    mkdir -p "$directory"
    ovs "$1" ovsdb-tool create "$directory/conf.db"
    ovs "$1" ovsdb-server "$directory/conf.db" --remote="punix:$directory/db.sock" \
        --pidfile="$directory/ovsdb-server.pid" --log-file="$directory/ovsdb-server.log" --detach 2>/dev/null
    vsctl "$1" --no-wait init
    ovs "$1" ovs-vswitchd "unix:$directory/db.sock" \
        --pidfile="$directory/ovs-vswitchd.pid" --log-file="$directory/ovs-vswitchd.log" --detach 2>/dev/null
}

# add_bridge NAMESPACE BRIDGE
add_bridge() {
    vsctl "$1" add-br "$2" -- set bridge "$2" datapath_type="$(datapath)"
    ip -n "$1" link set "$2" up
}

# add_port NAMESPACE BRIDGE PORT TO: an internal port, moved to namespace TO and brought up there.
add_port() {
    vsctl "$1" add-port "$2" "$3" -- set interface "$3" type=internal
    ip -n "$1" link set "$3" netns "$4"
    ip -n "$4" link set "$3" up
}

# What each topology puts between port1 and port2.
build() {
    case $1 in
    patch)
        refuse_if_taken switch1 agent1 agent2; mkdir "$STATE"; clean_on_failure
        for name in switch1 agent1 agent2; do make_namespace "$name"; done
        start_switch switch1
        for i in 1 2; do
            add_bridge switch1 ovs$i
            vsctl switch1 add-port ovs$i patch$i -- set interface patch$i type=patch options:peer=patch$((3 - i))
            add_port switch1 ovs$i port$i agent$i
        done
        ;;
    vxlan)
        refuse_if_taken host1 host2 agent1 agent2; mkdir "$STATE"; clean_on_failure
        for name in host1 host2 agent1 agent2; do make_namespace "$name"; done
        ip link add u1 netns host1 type veth peer name u2 netns host2
        for i in 1 2; do
            start_switch host$i
            add_bridge host$i brphy$i
            vsctl host$i add-port brphy$i u$i
            ip -n host$i link set u$i up
            ip -n host$i addr add 172.31.1.$i/24 dev brphy$i
            add_bridge host$i ovs$i
            vsctl host$i add-port ovs$i vxlan0 -- set interface vxlan0 type=vxlan \
                options:remote_ip=172.31.1.$((3 - i)) options:key=42
            add_port host$i ovs$i port$i agent$i
            ip -n agent$i link set port$i mtu 1450   # room for VXLAN's headers
        done
        ;;
    delay)
        refuse_if_taken switch1 agent1 agent2 agent3; mkdir "$STATE"; clean_on_failure
        for name in switch1 agent1 agent2 agent3; do make_namespace "$name"; done
        ip netns exec agent3 sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
        start_switch switch1
        for i in 1 2; do
            add_bridge switch1 ovs$i
            add_port switch1 ovs$i port$i agent$i
            add_port switch1 ovs$i port${i}2 agent3
        done
        delay_line
        ;;
    *)
        echo "${0##*/}: no topology '$1': choose patch, vxlan or delay" >&2
        exit 2
        ;;
    esac
}

# 20 ms from agent1 to agent2, 30 ms back: netem on a Linux bridge where the kernel has it, else xtask's forwarder.
delay_line() {
    if tc -n agent3 qdisc add dev port22 root netem limit 100000 delay 20ms 2>/dev/null; then
        tc -n agent3 qdisc add dev port12 root netem limit 100000 delay 30ms
        ip -n agent3 link add br3 type bridge mcast_snooping 0 forward_delay 0
        ip -n agent3 link set port12 master br3
        ip -n agent3 link set port22 master br3
        ip -n agent3 link set br3 up
        echo "delay by netem on a Linux bridge"
        return
    fi
    target=${CARGO_TARGET_DIR:-$HERE/../target}
    for xtask in "$target/release/xtask" "$target/debug/xtask" ""; do [ ! -x "$xtask" ] || break; done
    [ -n "$xtask" ] || die "no netem in this kernel, and no forwarder: build it with cargo build -p xtask"
    setsid ip netns exec agent3 "$xtask" forward --left port12 --right port22 \
        --left-to-right 20ms --right-to-left 30ms >"$STATE/forward.log" 2>&1 </dev/null &
    echo "delay by xtask forward (no netem in this kernel)"
}

# address PREFIX LENGTH [OPTION]: PREFIX5 for agent1, PREFIX6 for agent2.
address() {
    for i in 1 2; do
        # shellcheck disable=SC2086 # the option may be absent
        ip -n agent$i addr add "$1$((4 + i))/$2" dev port$i ${3:-}
    done
}

# Waits, for 5 seconds at most, until agent1 reaches the address.
wait_for() {
    ip netns exec agent1 ping -n -q -c 1 -i 0.1 -w 5 "$1" >/dev/null || die "agent1 does not reach $1 within 5 seconds"
}
