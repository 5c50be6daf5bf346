//! A real Open vSwitch, in a namespace of its own: two bridges with a link between them, connected by TCP and by TLS.
//!
//! `KSTAMP_CAPTURE=FILE` writes the messages of the switch to a file, as in `vectors/`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command as Program;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use probe_controller::openflow::cookie;
use probe_controller::openflow::flow::{Action, FlowMod, Match};
use probe_controller::openflow::frame::{Framer, MAX_MESSAGE};
use probe_controller::openflow::id::{Dpid, MacAddress, PortNumber};
use probe_controller::openflow::lldp::{ETH_TYPE_BOUNCE, Key, Kind, LldpProbe};
use probe_controller::openflow::message::{Message, PacketIn, PacketOut};
use probe_controller::openflow::port::Port;
use probe_controller::openflow::server::{Command, Config, ConnectionId, EventKind};
use tempfile::TempDir;

use crate::binary::Controller;
use crate::harness::{SOON, Subject, loopback};
use crate::support::ovs::{OpenVSwitch, can_switch};
use crate::support::{command, in_namespace, run};
use crate::tls::{Authority, Certificate, files};

impl OpenVSwitch {
    /// With a veth pair `l1`–`l2` for bridges `br1` and `br2` of dpids 1 and 2.
    pub fn linked() -> Self {
        let switch = Self::start();
        switch.run("ip link add l1 type veth peer name l2");
        for end in ["l1", "l2"] {
            switch.run(&format!("ip link set {end} up"));
        }
        switch
    }

    /// Makes the switch use the certificate of `certificate`, and trust `authority`.
    fn set_ssl(&self, certificate: &Certificate, authority: &Authority) {
        let files = [&certificate.key, &certificate.cert, &authority.ca].map(|path| path.display().to_string());
        self.vsctl(&format!("set-ssl {}", files.join(" ")));
    }

    /// Creates the bridges, which connect to a controller at once.
    pub fn connect_to(&self, target: &str) {
        for number in [1, 2] {
            self.vsctl(&format!(
                "add-br br{number} -- set bridge br{number} datapath_type=netdev protocols=OpenFlow13 \
                 fail-mode=secure other-config:datapath-id={number:016} \
                 other-config:hwaddr=02:00:00:00:00:0{number} other-config:disable-in-band=true \
                 -- add-port br{number} l{number} -- set interface l{number} ofport_request=5 \
                 -- set-controller br{number} {target}"
            ));
        }
    }

    fn rules(&self, bridge: &str) -> String {
        self.run(&format!("ovs-ofctl -O OpenFlow13 --no-stats dump-flows {bridge}"))
    }
}

/// One of the bridges as the server has it.
#[derive(Clone)]
struct Bridge {
    connection: ConnectionId,
    dpid: Dpid,
    /// `l1` or `l2`.
    link: Port,
}

struct Network {
    subject: Subject,
    bridges: [Bridge; 2],
    key: Key,
}

impl Network {
    fn await_bridges(mut subject: Subject) -> Self {
        let mut bridges = Vec::new();
        while bridges.len() < 2 {
            let (connection, dpid, ports) = subject.connected();
            assert!(ports.iter().any(|port| port.number == PortNumber::LOCAL), "{ports:?}");
            let link = ports.into_iter().find(|port| port.name.starts_with('l')).unwrap();
            assert!(link.is_up(), "{link:?}");
            bridges.push(Bridge { connection, dpid, link });
        }
        bridges.sort_by_key(|bridge| bridge.dpid);
        let bridges: [Bridge; 2] = bridges.try_into().ok().unwrap();
        assert_eq!(bridges.each_ref().map(|bridge| bridge.dpid.0), [1, 2]);
        Self {
            subject,
            bridges,
            key: Key::random().unwrap(),
        }
    }

    fn command(&self, bridge: &Bridge, command: Command) {
        self.subject
            .server
            .switches()
            .command(bridge.connection, command)
            .unwrap();
    }

    /// The next event of a kind; an error that a switch reports ends the test.
    fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(ConnectionId, EventKind) -> Option<T>) -> T {
        self.subject.wait(what, |event| match event.kind {
            EventKind::Error(error) => panic!("waiting for {what}: the switch reports {error:?}"),
            EventKind::Gone { reason, .. } => panic!("waiting for {what}: {reason}"),
            kind => pick(event.connection, kind),
        })
    }

    /// Waits until a bridge has processed and accepted all messages.
    fn settle(&mut self, bridge: &Bridge) {
        self.command(bridge, Command::Barrier(99));
        self.wait("barrier", |_, event| {
            matches!(event, EventKind::Barrier(99)).then_some(())
        });
    }

    /// Sends a frame that is built when it is written, and waits for its return from any bridge.
    fn send(&mut self, from: &Bridge, kind: Kind, out: PortNumber) -> (ConnectionId, PacketIn, LldpProbe) {
        let (key, dpid, port) = (self.key.clone(), from.dpid, from.link.clone());
        self.command(
            from,
            Command::stamped(move |sent_ns| {
                let probe = LldpProbe {
                    kind,
                    dpid,
                    port: port.number,
                    sent_ns,
                    sequence: 1,
                };
                Message::PacketOut(PacketOut::to_port(out, probe.encode(&key, port.mac)))
            }),
        );
        let key = self.key.clone();
        self.wait("packet-in", |connection, event| match event {
            EventKind::PacketIn(packet) => LldpProbe::decode(&key, &packet.frame)
                .ok()
                .map(|probe| (connection, packet, probe)),
            _ => None,
        })
    }
}

/// Sends all kinds of kstamp's messages to a real switch.
fn everything_is_accepted(mut network: Network, switch: &OpenVSwitch) {
    let [one, two] = network.bridges.clone();

    let (connection, packet, probe) = network.send(&one, Kind::Discovery, one.link.number);
    assert_eq!((connection, packet.in_port), (two.connection, two.link.number));
    assert_eq!(
        (packet.cookie, probe.dpid, probe.port),
        (cookie::LLDP, one.dpid, one.link.number)
    );

    let (connection, packet, _) = network.send(&one, Kind::Baseline, PortNumber::CONTROLLER);
    assert_eq!(
        (connection, packet.in_port, packet.cookie),
        (one.connection, PortNumber::CONTROLLER, u64::MAX)
    );

    // Out and straight back: the far bridge by IN_PORT, the near one to the controller.
    let bounced = Match::any().eth_type(ETH_TYPE_BOUNCE);
    let bounce = FlowMod::add(
        cookie::MEASURING | 2,
        60_000,
        bounced,
        vec![Action::Output(PortNumber::IN_PORT)],
    );
    let back = FlowMod::add(
        cookie::MEASURING | 3,
        60_001,
        bounced.in_port(one.link.number).eth_src(one.link.mac),
        vec![Action::Output(PortNumber::CONTROLLER)],
    );
    network.command(&two, Command::Send(Message::FlowMod(bounce)));
    network.command(&one, Command::Send(Message::FlowMod(back)));
    network.settle(&one);
    network.settle(&two);
    let (connection, packet, _) = network.send(&one, Kind::Bounce, one.link.number);
    assert_eq!((connection, packet.in_port), (one.connection, one.link.number));
    assert_eq!(packet.cookie, cookie::MEASURING | 3);

    forwarding_rules(&mut network, &one, switch);

    network.command(&one, Command::Send(Message::EchoRequest(vec![7; 16])));
    let payload = network.wait("echo reply", |_, event| match event {
        EventKind::EchoReply(payload) => Some(payload),
        _ => None,
    });
    assert_eq!(payload, [7; 16]);

    switch.run("ip link set l1 down");
    let connection = one.connection;
    network.wait("port that goes down", |from, event| match event {
        EventKind::PortStatus(_, port) if from == connection && port.name == "l1" && !port.is_up() => Some(()),
        _ => None,
    });
    assert_eq!(network.subject.server.counters().refused, 0);
}

fn forwarding_rules(network: &mut Network, bridge: &Bridge, switch: &OpenVSwitch) {
    let to = MacAddress([2, 0, 0, 0, 0, 0x77]);
    let path = cookie::FORWARDING | 0x10;
    let matching = Match::any().eth_dst(to);
    let out = |port| vec![Action::Output(port)];
    let mut broadcast = FlowMod::add(
        cookie::FORWARDING | 0x11,
        10,
        Match::any().in_port(PortNumber(5)).eth_dst_group(),
        vec![
            Action::Output(PortNumber::LOCAL),
            Action::Output(PortNumber::CONTROLLER),
        ],
    );
    broadcast.idle_timeout_s = 300;
    for rule in [
        FlowMod::add(path, 100, matching, out(PortNumber(5))),
        FlowMod::add(path + 2, 1, Match::any().eth_type(0x86dd), Vec::new()),
        broadcast,
        FlowMod::modify_strict(path, 100, matching, out(PortNumber::LOCAL)),
        // Another cookie: no effect.
        FlowMod::delete_strict(path + 1, 100, matching),
    ] {
        network.command(bridge, Command::Send(Message::FlowMod(rule)));
    }
    network.settle(bridge);
    let rules = switch.rules("br1");
    for expected in [
        "priority=100,dl_dst=02:00:00:00:00:77 actions=LOCAL",
        "idle_timeout=300, priority=10,in_port=5,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=LOCAL,CONTROLLER:65535",
        "priority=1,ipv6 actions=drop",
        "priority=65535,dl_dst=01:80:c2:00:00:0e,dl_type=0x88cc actions=CONTROLLER:65535",
        "priority=0 actions=CONTROLLER:65535",
    ] {
        assert!(rules.contains(expected), "{expected} is not in\n{rules}");
    }
    let delete = FlowMod::delete_strict(path, 100, matching);
    network.command(bridge, Command::Send(Message::FlowMod(delete)));
    network.settle(bridge);
    assert!(!switch.rules("br1").contains("priority=100"));
    let all = FlowMod::delete_by_cookie(cookie::FORWARDING, cookie::CLASS_MASK);
    network.command(bridge, Command::Send(Message::FlowMod(all)));
    network.settle(bridge);
    let left = switch.rules("br1");
    assert!(
        left.contains("priority=65535") && left.contains("priority=60001") && !left.contains("priority=0 "),
        "{left}"
    );
}

#[test]
fn over_tcp_a_real_switch_accepts_everything() {
    if !can_switch() {
        return;
    }
    let switch = OpenVSwitch::linked();
    in_namespace(&switch.namespace);
    let subject = Subject::with(Config::new(loopback()));
    let recorder = Recorder::start(subject.server.address());
    switch.connect_to(&format!("tcp:{}", recorder.address));
    everything_is_accepted(Network::await_bridges(subject), &switch);
    recorder.check_and_keep();
}

#[test]
fn over_tls_a_real_switch_accepts_everything() {
    if !can_switch() {
        return;
    }
    let switch = OpenVSwitch::linked();
    in_namespace(&switch.namespace);
    let directory = TempDir::new().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    switch.set_ssl(&authority.issue(directory.path(), "switch"), &authority);
    let config = Config {
        tls: Some(files(&authority, &authority.issue(directory.path(), "controller"))),
        ..Config::new(loopback())
    };
    let subject = Subject::with(config);
    switch.connect_to(&format!("ssl:{}", subject.server.address()));
    everything_is_accepted(Network::await_bridges(subject), &switch);
}

#[test]
fn over_tls_a_real_switch_is_measured_by_the_real_controller() {
    if !can_switch() {
        return;
    }
    let switch = OpenVSwitch::linked();
    in_namespace(&switch.namespace);
    let directory = TempDir::new().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let certificate = authority.issue(directory.path(), "controller");
    let text = |path: &Path| path.display().to_string();
    let (cert, key, ca) = (text(&certificate.cert), text(&certificate.key), text(&authority.ca));
    let controller = Controller::start(&["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &ca]);
    // A switch with certificates of another authority is refused, then one with certificates of ours is not.
    let stranger = Authority::new(directory.path(), "stranger");
    let other = stranger.issue(directory.path(), "stranger");
    switch.set_ssl(&other, &authority);
    switch.connect_to(&format!("ssl:{}", controller.address));
    controller.await_event("switch_down", &["did not complete its handshake", "TLS"]);
    let ours = authority.issue(directory.path(), "switch");
    switch.set_ssl(&ours, &authority);
    let link = controller.wait("link with a delay", |line| {
        line["type"] == "link" && (line["state"] == "valid" || line["state"] == "below_resolution")
    });
    for end in ["from", "to"] {
        assert_eq!(link[end]["port"], 5, "{link:#}");
    }
    assert!(link["rtt_ns"]["lldp_echo"].is_i64(), "{link:#}");
    let (summary, _) = controller.stop();
    assert_eq!(summary["switches"], 2, "{summary:#}");
}

/// Waits until a condition holds.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn rules_that_somebody_deletes_from_a_real_switch_are_put_back() {
    if !can_switch() {
        return;
    }
    let switch = OpenVSwitch::linked();
    in_namespace(&switch.namespace);
    let controller = Controller::start(&[]);
    switch.connect_to(&format!("tcp:{}", controller.address));
    controller.wait("link with a delay", |line| {
        line["type"] == "link" && (line["state"] == "valid" || line["state"] == "below_resolution")
    });
    let rules = || {
        ["br1", "br2"].map(|bridge| {
            let rules = switch.rules(bridge);
            rules
                .lines()
                .map(|rule| rule.trim().to_owned())
                .collect::<BTreeSet<_>>()
        })
    };
    // LLDP, the table miss, reserved addresses, returned bounces and broadcast at both; at one the neighbour's bounces.
    until("all rules are there", || {
        rules().each_ref().map(BTreeSet::len) == [5, 6]
    });
    let before = rules();
    for bridge in ["br1", "br2"] {
        switch.run(&format!("ovs-ofctl -O OpenFlow13 del-flows {bridge}"));
        controller.await_event("trouble", &[bridge, "put back"]);
    }
    until("all rules are back", || rules() == before);
    let (summary, errors) = controller.stop();
    // Those of the link may have been given again because the link was stale.
    assert!(summary["rules_restored"].as_u64() >= Some(8), "{summary:#}");
    assert_eq!(errors, "");
}

/// Namespaces of hosts, removed at the end.
struct Hosts(Vec<String>);

impl Drop for Hosts {
    fn drop(&mut self) {
        for namespace in &self.0 {
            let _ = Program::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

impl Hosts {
    /// Moves an interface of the switch's namespace to a host, with the address 10.9.0.`number`.
    fn add(&mut self, switch: &OpenVSwitch, interface: &str, number: u32) {
        let namespace = format!("{}h{number}", switch.namespace);
        run(&format!("ip netns add {namespace}"));
        self.0.push(namespace.clone());
        switch.run(&format!("ip link set {interface} netns {namespace}"));
        run(&format!(
            "ip -n {namespace} address add 10.9.0.{number}/24 dev {interface}"
        ));
        run(&format!("ip -n {namespace} link set {interface} up"));
    }

    /// Sends pings to an address. Returns how many were answered, and how often more than once.
    fn ping(&self, host: usize, to: u32) -> (usize, usize) {
        let namespace = &self.0[host];
        let line = format!("ip netns exec {namespace} ping -c 3 -i 0.2 -W 1 10.9.0.{to}");
        let output = command(&line).output().unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let (answers, duplicates) = (output.matches("ttl=").count(), output.matches("DUP!").count());
        (answers - duplicates, duplicates)
    }
}

#[test]
fn three_real_switches_on_one_unmanaged_segment_are_reported_once_and_carry_traffic() {
    if !can_switch() {
        return;
    }
    let switch = OpenVSwitch::linked();
    in_namespace(&switch.namespace);
    // An unmanaged switch passes LLDP.
    switch.run("ip link add hub type bridge group_fwd_mask 0x4000 mcast_snooping 0");
    switch.run("ip link set hub up");
    let controller = Controller::start(&[]);
    let mut hosts = Hosts(Vec::new());
    let plug = |name: &str| {
        switch.run(&format!("ip link add {name} type veth peer name {name}p"));
        switch.run(&format!("ip link set {name} up"));
    };
    for number in 1..=3 {
        for name in [format!("s{number}"), format!("h{number}")] {
            plug(&name);
        }
        switch.run(&format!("ip link set s{number}p master hub up"));
        switch.vsctl(&format!(
            "add-br br{number} -- set bridge br{number} datapath_type=netdev protocols=OpenFlow13 fail-mode=secure \
             other-config:datapath-id={number:016} other-config:disable-in-band=true \
             -- add-port br{number} s{number} -- set interface s{number} ofport_request=1 \
             -- add-port br{number} h{number} -- set interface h{number} ofport_request=2 \
             -- set-controller br{number} tcp:{}",
            controller.address
        ));
        hosts.add(&switch, &format!("h{number}p"), number);
    }
    plug("h4");
    switch.run("ip link set h4 master hub");
    hosts.add(&switch, "h4p", 4);
    controller.await_event("segment", &["br1:1, br2:1, br3:1"]);
    let all = [1u32, 2, 3, 4];
    for (place, from) in all.iter().enumerate() {
        for to in all.iter().filter(|to| *to != from) {
            // The first pings may be lost: ports of hosts, and hosts, become known by them.
            until("a host answers", || hosts.ping(place, *to) == (3, 0));
        }
    }
    let changes = ["link_up", "link_stale", "link_down"].map(|event| controller.events(event));
    assert!(changes.iter().sum::<usize>() <= 6 && changes[1] == 0, "{changes:?}");
    assert_eq!(controller.events("segment"), 1);
    let (summary, errors) = controller.stop();
    assert_eq!(
        (&summary["segments"], &summary["storms"]),
        (&1.into(), &0.into()),
        "{summary:#}"
    );
    assert_eq!(errors, "");
}

/// A relay between switches and server that records the messages of the switches.
struct Recorder {
    address: SocketAddr,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let recorded = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        // Its connections are made in the namespace of this thread.
        let keep = Arc::clone(&recorded);
        std::thread::spawn(move || {
            for switch in listener.incoming() {
                let (switch, server) = (switch.unwrap(), TcpStream::connect(server).unwrap());
                let (to_switch, from_server) = (switch.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || relay(from_server, to_switch, |_| {}));
                let (keep, mut stream) = (Arc::clone(&keep), Vec::new());
                std::thread::spawn(move || {
                    relay(switch, server, |bytes| {
                        stream.extend_from_slice(bytes);
                        keep.lock().unwrap().extend(whole_messages(&mut stream));
                    });
                });
            }
        });
        Self { address, recorded }
    }

    /// Every recorded message can be decoded. Writes them to the file of `KSTAMP_CAPTURE`, if it is set.
    fn check_and_keep(&self) {
        let mut recorded = self.recorded.lock().unwrap().clone();
        assert!(recorded.len() > 20, "{}", recorded.len());
        for bytes in &recorded {
            decode(bytes);
        }
        let Some(file) = std::env::var_os("KSTAMP_CAPTURE") else {
            return;
        };
        // One message of each type and length, and one packet-in of each cookie.
        let sort = |message: &Vec<u8>| {
            let cookie = if message[1] == 10 {
                message[16..24].to_vec()
            } else {
                Vec::new()
            };
            (message[1], message.len(), cookie)
        };
        recorded.sort_by_key(sort);
        recorded.dedup_by_key(|message| sort(message));
        let mut file = File::create(file).unwrap();
        let version = run("ovs-vswitchd --version");
        writeln!(file, "# {}", version.lines().next().unwrap_or_default()).unwrap();
        writeln!(
            file,
            "# Its messages to a controller; made by tests/openflow/ovs.rs with KSTAMP_CAPTURE."
        )
        .unwrap();
        for message in recorded {
            let digits: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(file, "{digits}").unwrap();
        }
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn whole_messages(stream: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while stream.len() >= 8 {
        let len = usize::from(u16::from_be_bytes([stream[2], stream[3]]));
        if stream.len() < len {
            break;
        }
        found.push(stream.drain(..len).collect());
    }
    found
}

fn decode(bytes: &[u8]) -> Message {
    let mut framer = Framer::new(MAX_MESSAGE);
    framer.push(bytes);
    let (header, body) = framer.next_message().unwrap().unwrap();
    let message = Message::decode(header, body).unwrap();
    assert_eq!(framer.waiting(), 0);
    message
}

/// `vectors/open-vswitch-3.1.txt`: Debian 12, Open vSwitch 3.1.0, userspace datapath, by the test above.
#[test]
fn recorded_messages_of_open_vswitch_are_decoded() {
    let vectors = include_str!("vectors/open-vswitch-3.1.txt");
    let mut seen = [0; 30];
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..line.len()).step_by(2).map(byte).collect();
        let message = decode(&bytes);
        seen[usize::from(bytes[1])] += 1;
        match &message {
            Message::FeaturesReply(features) => assert!((1..=2).contains(&features.dpid.0) && features.tables == 254),
            Message::PortDescReply { more, ports } => {
                let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
                assert!(
                    !more
                        && (names == ["l1", "br1"]
                            || names == ["l2", "br2"]
                            || names == ["br1", "l1"]
                            || names == ["br2", "l2"]),
                    "{names:?}"
                );
                assert!(
                    ports
                        .iter()
                        .all(|port| port.number == PortNumber(5) || port.number == PortNumber::LOCAL)
                );
            }
            Message::PacketIn(packet) => {
                assert_eq!(usize::from(packet.total_len), packet.frame.len());
                assert!([PortNumber(5), PortNumber::CONTROLLER, PortNumber::LOCAL].contains(&packet.in_port));
            }
            _ => {}
        }
        // These have no fields that kstamp leaves out.
        if matches!(
            message,
            Message::Hello(_) | Message::FeaturesReply(_) | Message::BarrierReply | Message::EchoReply(_)
        ) {
            let xid = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            assert_eq!(message.encode(xid).unwrap(), bytes);
        }
    }
    for (kind, name) in [
        (0, "hello"),
        (3, "echo reply"),
        (6, "features"),
        (10, "packet-in"),
        (12, "port status"),
        (19, "ports"),
        (21, "barrier"),
    ] {
        assert!(seen[kind] > 0, "no {name} among the vectors");
    }
}
