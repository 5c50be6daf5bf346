//! Simulated switches on one thread: they speak OpenFlow over loopback, are wired to each other in this process, and have
//! a flow table for the controller's rules.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use probe_controller::openflow::flow::{Action, FlowCommand, FlowMod, Match};
use probe_controller::openflow::frame::{Framer, MAX_MESSAGE};
use probe_controller::openflow::id::{Dpid, MacAddress, PortNumber};
use probe_controller::openflow::message::{Features, Hello, Message, PacketIn, PacketInReason, PacketOut};
use probe_controller::openflow::port::{CONFIG_DOWN, Port, PortReason, STATE_LINK_DOWN, STATE_LIVE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

pub type End = (Dpid, PortNumber);

/// Switches and their wiring.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// Each switch and the number of its ports, which are 1, 2, …
    pub switches: Vec<(Dpid, u32)>,
    pub links: HashMap<End, End>,
    pub delay: Duration,
}

impl Topology {
    pub fn link(&mut self, a: End, b: End) {
        assert!(
            self.links.insert(a, b).is_none() && self.links.insert(b, a).is_none(),
            "{a:?} or {b:?} is wired twice"
        );
    }

    /// `count` switches of `ports` ports, dpids from 1, all ports wired: neighbours on a ring by the first two ports, and
    /// ever longer chords of the ring by each further pair.
    pub fn ring(count: u64, ports: u32) -> Self {
        let mut topology = Self {
            switches: (1..=count).map(|dpid| (Dpid(dpid), ports)).collect(),
            ..Self::default()
        };
        for pair in 0..ports / 2 {
            for from in 0..count {
                let to = (from + u64::from(pair) + 1) % count;
                let end = |index: u64, port| (Dpid(index + 1), PortNumber(port));
                topology.link(end(from, 2 * pair + 1), end(to, 2 * pair + 2));
            }
        }
        topology
    }
}

/// Counts of all switches together.
#[derive(Debug, Default)]
pub struct Done {
    /// Handshakes that reached the request for the ports.
    pub ready: AtomicUsize,
    pub packet_outs: AtomicU64,
    pub packet_ins: AtomicU64,
    pub flow_mods: AtomicU64,
    /// Connections that ended early.
    pub ended: AtomicUsize,
}

/// Switches that run until this is dropped.
pub struct Network {
    done: Arc<Done>,
    orders: mpsc::UnboundedSender<(Dpid, Input)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

enum Input {
    /// A frame from the wire.
    Frame(PortNumber, Vec<u8>),
    Carrier(PortNumber, bool),
}

type Inputs = Rc<HashMap<Dpid, mpsc::UnboundedSender<Input>>>;

impl Network {
    /// Connects all switches of a topology to a controller.
    pub fn start(controller: SocketAddr, topology: Topology) -> Self {
        let done = Arc::<Done>::default();
        let (stop, stopped) = oneshot::channel();
        let (orders, to_carry_out) = mpsc::unbounded_channel();
        let for_thread = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let local = LocalSet::new();
            runtime.block_on(local.run_until(async {
                tokio::select! {
                    () = run(controller, topology, for_thread, to_carry_out) => {}
                    _ = stopped => {}
                }
            }));
        });
        Self {
            done,
            orders,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What they have done so far.
    pub fn done(&self) -> &Done {
        &self.done
    }

    /// Sets the carrier of a port, and reports it to the controller. Without a carrier, frames to and from it are dropped.
    pub fn set_carrier(&self, (dpid, port): End, carrier: bool) {
        self.orders.send((dpid, Input::Carrier(port, carrier))).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(
    controller: SocketAddr,
    topology: Topology,
    done: Arc<Done>,
    mut orders: mpsc::UnboundedReceiver<(Dpid, Input)>,
) {
    let topology = Rc::new(topology);
    let (mut senders, mut receivers) = (HashMap::new(), Vec::new());
    for &(dpid, ports) in &topology.switches {
        let (sender, receiver) = mpsc::unbounded_channel();
        senders.insert(dpid, sender);
        receivers.push((dpid, ports, receiver));
    }
    let inputs: Inputs = Rc::new(senders);
    for (dpid, ports, receiver) in receivers {
        let mut switch = Switch::new(dpid, ports, Rc::clone(&topology), Rc::clone(&inputs), Arc::clone(&done));
        tokio::task::spawn_local(async move {
            let result = switch.run(controller, receiver).await;
            switch.done.ended.fetch_add(1, Ordering::Relaxed);
            eprintln!("simulated switch {dpid}: {result:?}");
        });
    }
    while let Some((dpid, input)) = orders.recv().await {
        let _ = inputs[&dpid].send(input);
    }
}

struct Switch {
    dpid: Dpid,
    ports: Vec<Port>,
    rules: Vec<FlowMod>,
    topology: Rc<Topology>,
    inputs: Inputs,
    done: Arc<Done>,
    /// Bytes to write.
    out: RefCell<Vec<u8>>,
}

impl Switch {
    fn new(dpid: Dpid, ports: u32, topology: Rc<Topology>, inputs: Inputs, done: Arc<Done>) -> Self {
        Self {
            dpid,
            ports: (1..=ports).map(|number| port(dpid, number)).collect(),
            rules: Vec::new(),
            topology,
            inputs,
            done,
            out: RefCell::default(),
        }
    }

    async fn run(&mut self, controller: SocketAddr, mut inputs: mpsc::UnboundedReceiver<Input>) -> io::Result<()> {
        let mut stream = TcpStream::connect(controller).await?;
        stream.set_nodelay(true)?;
        let mut framer = Framer::new(MAX_MESSAGE);
        let mut buffer = vec![0; 4096];
        let hello = Hello {
            version: 4,
            bitmap: Some(1 << 4),
        };
        self.queue(&Message::Hello(hello), 0);
        loop {
            let out = self.out.take();
            stream.write_all(&out).await?;
            tokio::select! {
                count = stream.read(&mut buffer) => match count? {
                    0 => return Ok(()),
                    count => {
                        framer.push(&buffer[..count]);
                        while let Some((header, body)) = framer.next_message().map_err(io::Error::other)? {
                            let message = Message::decode(header, body).map_err(io::Error::other)?;
                            self.handle(message, header.xid);
                        }
                    }
                },
                Some(input) = inputs.recv() => match input {
                    Input::Frame(port, frame) => self.receive(port, &frame),
                    Input::Carrier(port, carrier) => self.set_carrier(port, carrier),
                },
            }
        }
    }

    fn queue(&self, message: &Message, xid: u32) {
        self.out.borrow_mut().extend(message.encode(xid).unwrap());
    }

    fn handle(&mut self, message: Message, xid: u32) {
        match message {
            Message::Hello(_) | Message::SetConfig { .. } | Message::EchoReply(_) => {}
            Message::EchoRequest(payload) => self.queue(&Message::EchoReply(payload), xid),
            Message::FeaturesRequest => {
                let features = Features {
                    dpid: self.dpid,
                    buffers: 0,
                    tables: 1,
                    auxiliary: 0,
                    capabilities: 0,
                };
                self.queue(&Message::FeaturesReply(features), xid);
            }
            Message::AggregateRequest { cookie, mask } => {
                let ours = self.rules.iter().filter(|rule| rule.cookie & mask == cookie);
                let flows = u32::try_from(ours.count()).unwrap();
                self.queue(&Message::AggregateReply { flows }, xid);
            }
            Message::BarrierRequest => self.queue(&Message::BarrierReply, xid),
            Message::PortDescRequest => {
                self.done.ready.fetch_add(1, Ordering::Relaxed);
                // In two parts, as of a switch with many ports.
                let (first, second) = self.ports.split_at(self.ports.len() / 2);
                for (more, ports) in [(true, first), (false, second)] {
                    let ports = ports.to_vec();
                    self.queue(&Message::PortDescReply { more, ports }, xid);
                }
            }
            Message::FlowMod(change) => {
                self.done.flow_mods.fetch_add(1, Ordering::Relaxed);
                self.change(change);
            }
            Message::PacketOut(packet) => {
                self.done.packet_outs.fetch_add(1, Ordering::Relaxed);
                let PacketOut {
                    in_port,
                    actions,
                    frame,
                } = packet;
                self.act(&actions, in_port, &frame, u64::MAX, PacketInReason::Action);
            }
            other => panic!("a simulated switch was sent {other:?}"),
        }
    }

    fn change(&mut self, change: FlowMod) {
        let named = |rule: &FlowMod| (rule.cookie ^ change.cookie) & change.cookie_mask == 0;
        let same = |rule: &FlowMod| rule.matching == change.matching && rule.priority == change.priority;
        match change.command {
            FlowCommand::Add => {
                self.rules.retain(|rule| !same(rule));
                self.rules.push(change);
                self.rules.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
            }
            FlowCommand::ModifyStrict => {
                for rule in self.rules.iter_mut().filter(|rule| same(rule) && named(rule)) {
                    rule.actions.clone_from(&change.actions);
                }
            }
            FlowCommand::DeleteStrict => self.rules.retain(|rule| !(same(rule) && named(rule))),
            FlowCommand::Delete => {
                self.rules
                    .retain(|rule| !(named(rule) && covers(&change.matching, &rule.matching)));
            }
            FlowCommand::Modify => panic!("a simulated switch knows no MODIFY"),
        }
    }

    fn receive(&self, in_port: PortNumber, frame: &[u8]) {
        if !self.is_up(in_port) {
            return;
        }
        if let Some(rule) = self.rules.iter().find(|rule| applies(&rule.matching, in_port, frame)) {
            let reason = match rule.priority {
                0 => PacketInReason::NoMatch,
                _ => PacketInReason::Action,
            };
            self.act(&rule.actions, in_port, frame, rule.cookie, reason);
        }
    }

    fn act(&self, actions: &[Action], in_port: PortNumber, frame: &[u8], cookie: u64, reason: PacketInReason) {
        for &Action::Output(port) in actions {
            match port {
                PortNumber::CONTROLLER => {
                    self.done.packet_ins.fetch_add(1, Ordering::Relaxed);
                    let packet = PacketIn {
                        reason,
                        table: 0,
                        cookie,
                        in_port,
                        matching: Match::any().in_port(in_port),
                        total_len: u16::try_from(frame.len()).unwrap(),
                        frame: frame.to_vec(),
                    };
                    self.queue(&Message::PacketIn(packet), 0);
                }
                PortNumber::IN_PORT => self.transmit(in_port, frame),
                PortNumber::FLOOD | PortNumber::ALL => {
                    for to in self.ports.iter().map(|port| port.number).filter(|&to| to != in_port) {
                        self.transmit(to, frame);
                    }
                }
                port if port != in_port => self.transmit(port, frame),
                _ => {}
            }
        }
    }

    fn transmit(&self, port: PortNumber, frame: &[u8]) {
        let Some(&(far, far_port)) = self.topology.links.get(&(self.dpid, port)) else {
            return;
        };
        if !self.is_up(port) {
            return;
        }
        let (inputs, frame, delay) = (Rc::clone(&self.inputs), frame.to_vec(), self.topology.delay);
        if delay.is_zero() {
            let _ = inputs[&far].send(Input::Frame(far_port, frame));
            return;
        }
        tokio::task::spawn_local(async move {
            tokio::time::sleep(delay).await;
            let _ = inputs[&far].send(Input::Frame(far_port, frame));
        });
    }

    fn is_up(&self, number: PortNumber) -> bool {
        self.ports.iter().any(|port| port.number == number && port.is_up())
    }

    fn set_carrier(&mut self, number: PortNumber, carrier: bool) {
        let Some(index) = self.ports.iter().position(|port| port.number == number) else {
            return;
        };
        // In two steps, as Open vSwitch reports it.
        let (first, second) = if carrier {
            ((0, 0), (0, STATE_LIVE))
        } else {
            ((0, 0), (CONFIG_DOWN, STATE_LINK_DOWN))
        };
        for (config, state) in [first, second] {
            self.ports[index].config = config;
            self.ports[index].state = state;
            self.queue(&Message::PortStatus(PortReason::Modify, self.ports[index].clone()), 0);
        }
    }
}

fn port(dpid: Dpid, number: u32) -> Port {
    let [.., a, b, c] = dpid.0.to_be_bytes();
    Port {
        number: PortNumber(number),
        mac: MacAddress([2, a, b, c, 0, number as u8]),
        name: format!("s{dpid:x}p{number}", dpid = dpid.0),
        config: 0,
        state: STATE_LIVE,
        speed_kbps: 10_000_000,
    }
}

/// Whether a rule is for a packet.
fn applies(rule: &Match, in_port: PortNumber, frame: &[u8]) -> bool {
    let mac = |at: usize| frame.get(at..at + 6).unwrap_or_default();
    rule.in_port.is_none_or(|port| port == in_port)
        && rule.eth_src.is_none_or(|src| src.0 == mac(6))
        && rule
            .eth_type
            .is_none_or(|eth_type| frame.get(12..14) == Some(&eth_type.to_be_bytes()))
        && rule.eth_dst.is_none_or(|(dst, mask)| {
            let masked = mac(0).iter().zip(mask.0).map(|(&byte, mask)| byte & mask);
            masked.eq(dst.0)
        })
}

/// Whether a delete's match covers a rule's, as far as the tests need it.
fn covers(delete: &Match, rule: &Match) -> bool {
    delete.in_port.is_none_or(|_| delete.in_port == rule.in_port)
        && delete.eth_dst.is_none_or(|_| delete.eth_dst == rule.eth_dst)
        && delete.eth_src.is_none_or(|_| delete.eth_src == rule.eth_src)
        && delete.eth_type.is_none_or(|_| delete.eth_type == rule.eth_type)
}
