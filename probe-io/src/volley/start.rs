//! The start of a run: loads and attaches the programs, and sends two probes to find out whether the mode works.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, TcAttachType, XdpMode};
use probe_common::abi::Address;
use probe_common::family::Family;
use probe_common::ntp::NS_PER_S;
use probe_common::volley::{Count, Epoch, ONE_WAY, RELAY, Settings, VERSION};
use probe_core::volley::{Mode, ReflectorCounter};
use probe_host::clock::monotonic_ns;
use probe_host::link::{Link, Netlink, Obstacle, obstacle, xdp_features};
use probe_host::wall::WallOffset;

use crate::backend::ebpf::attach::{Classifier, classifier_before_others, describe_program};
use crate::backend::error::root_cause;
use crate::udp::sockets::{SocketError, local_port};
use crate::udp::strays;
use crate::udp::target::sender_to;
use crate::volley::device::{find, why_unanswered};
use crate::volley::launcher::Launcher;
use crate::volley::object::{EGRESS, INGRESS, VolleyObject};
use crate::volley::samples::Samples;
use crate::volley::setup::{Links, Setup};
use crate::volley::transmitter::Transmitter;
use crate::volley::{Volley, VolleyConfig, VolleyError, template};

/// The first sequence number. A reflector with a counter of its own begins at 0, so one that returns this number has none.
const FIRST: u64 = 1 << 30;

/// Attempts, because the address of the next hop may have to be resolved first.
const ATTEMPTS: u32 = 5;
const ATTEMPT_NS: u64 = 400_000_000;
/// Shorter, because the first probe has resolved the next hop.
const FRAME_ATTEMPT_NS: u64 = 300_000_000;
const LOOK: Duration = Duration::from_micros(200);

impl Volley {
    /// Loads and attaches the programs; sends nothing. To be called from within a tokio runtime.
    pub async fn open(config: VolleyConfig) -> Result<Self, VolleyError> {
        let netlink = Netlink::open()?;
        let link = find(&netlink, &config.interface).await?;
        let failed = |source| SocketError::Target {
            to: config.target.to,
            source,
        };
        let socket = sender_to(&config.target, Some(&config.interface), config.source_port).map_err(failed)?;
        socket.set_recv_buffer_size(strays::MAX_BYTES).map_err(failed)?;
        let source_port = local_port(&socket).map_err(failed)?;
        let own = socket
            .local_addr()
            .map_err(failed)?
            .as_socket()
            .map_or(Address::NONE, |own| own.ip().into());
        let mut object = VolleyObject::load(config.plan.slots)?;
        let wall = WallOffset::now();
        let epoch = epoch(&wall);
        let settings = Settings {
            version: VERSION,
            interface: link.index,
            epoch,
            peer: config.target.to.ip().into(),
            own,
            test_port: config.target.to.port(),
            source_port,
            ip_version: match config.target.to {
                SocketAddr::V4(_) => 4,
                SocketAddr::V6(_) => 6,
            },
            reserved: 0,
            flags: flags(config.plan.mode, config.one_way),
            mask: config.plan.slots - 1,
            sample_every: config.sample_every.unwrap_or(0),
            reserved_too: 0,
        };
        let samples = Samples::new(object.take_samples()?);
        let shared = Arc::new(object.take_shared(config.plan.slots)?);
        shared.reset();
        shared.next().store(FIRST, Ordering::Release);
        object.set_settings(&settings)?;
        let mut links = Links::default();
        // Attached in mode sendmmsg too: only then does a veth take the replies that the peer's XDP program sends.
        let xdp_refusal = match attach_xdp(&mut object, &link) {
            Ok(xdp) => {
                links.xdp = Some(xdp);
                None
            }
            Err(_) if config.plan.mode == Mode::Sendmmsg => {
                links.ingress = Some(attach_ingress(&mut object, &link)?);
                None
            }
            Err(error) => Some(error),
        };
        let egress = classifier_before_others(object.classifier(EGRESS)?, &link, TcAttachType::Egress);
        links.egress = Some(egress.map_err(|error| refused(&link, "the egress program", &error))?);
        Ok(Self {
            launcher: None,
            links,
            shared,
            samples,
            plan: config.plan.clone(),
            one_way: config.one_way,
            epoch,
            wall,
            clock_step_ns: None,
            first: FIRST,
            sent_before: 0,
            deadline_ns: u64::MAX,
            reflector: ReflectorCounter::default(),
            setup: Some(Setup {
                transmitter: Transmitter {
                    frame: Vec::new(),
                    batch: config.plan.batch,
                    socket,
                    ssid: session(),
                    error: config.error,
                },
                config,
                link,
                object,
                settings,
                xdp_refusal,
            }),
        })
    }

    /// Sends one probe by the socket, and one in the mode of the run. When both have been answered, the run begins.
    /// `may_fall_back` allows mode `sendmmsg` if the XDP program could not be attached, or the second probe is not answered.
    pub async fn start(&mut self, may_fall_back: bool) -> Result<(), VolleyError> {
        let Some(mut setup) = self.setup.take() else {
            return Err(VolleyError::Refused("the run has begun already".to_owned()));
        };
        if let Some(error) = setup.xdp_refusal.take() {
            if !may_fall_back {
                return Err(error);
            }
            self.links.ingress = Some(attach_ingress(&mut setup.object, &setup.link)?);
            self.fall_back(&mut setup, error.to_string())?;
        }
        self.find_the_way(&mut setup).await?;
        if self.plan.mode != Mode::Sendmmsg && !self.try_frame(&setup).await? {
            let reason = why_unanswered(&setup.link, xdp_features(setup.link.index).unwrap_or_default());
            if !may_fall_back {
                let (mode, name) = (self.plan.mode, &setup.link.name);
                return Err(VolleyError::Refused(format!(
                    "mode {mode} does not work on {name}: {reason}"
                )));
            }
            self.fall_back(&mut setup, reason)?;
        }
        self.begin(setup)
    }

    /// Sends a probe by the socket until one is answered. Its frame becomes the template.
    async fn find_the_way(&mut self, setup: &mut Setup) -> Result<(), VolleyError> {
        self.shared.capture().store(1, Ordering::Release);
        let mut refusal = None;
        for _ in 0..ATTEMPTS {
            let sequence = self.shared.next().fetch_add(1, Ordering::AcqRel);
            refusal = setup.transmitter.send_datagrams(sequence, 1).err();
            if self.is_answered(1, ATTEMPT_NS).await {
                let family = Family::of(setup.config.target.to.ip());
                let captured = setup.object.template()?;
                let template = template::finish(&captured, family).ok_or_else(|| {
                    VolleyError::Refused(format!("{} does not show the frames that it sends", setup.link.name))
                })?;
                setup.object.set_template(&template)?;
                setup.transmitter.frame = vec![0; template.length.into()];
                return Ok(());
            }
        }
        let Setup { config, link, .. } = setup;
        let reason = match (refusal, obstacle(Some(link.index), config.target.to.ip())) {
            (_, Ok(Some(Obstacle::NoNeighbour))) => "the next hop does not answer ARP or ND".to_owned(),
            (_, Ok(Some(Obstacle::NoCarrier))) => "the interface has no carrier".to_owned(),
            (_, Ok(Some(Obstacle::NoRoute))) => "there is no route to it by this interface".to_owned(),
            (Some(error), _) => format!("the kernel says: {error}"),
            _ => "is there a reflector, and does it allow this host (`--allow`)?".to_owned(),
        };
        Err(VolleyError::Refused(format!(
            "{} does not answer by {}: {reason}",
            config.target.to, link.name
        )))
    }

    /// Sends one probe in the mode of the run. Returns whether it was answered.
    async fn try_frame(&mut self, setup: &Setup) -> Result<bool, VolleyError> {
        let received = self.shared.counted().of(Count::Received);
        let now_ns = monotonic_ns();
        let next = self.shared.next().load(Ordering::Acquire);
        self.shared.start_ns().store(now_ns, Ordering::Release);
        self.shared.rate().store(0, Ordering::Release);
        self.shared.burst().store(1, Ordering::Release);
        self.shared.first().store(next, Ordering::Release);
        self.shared.balls().store(1, Ordering::Release);
        self.shared
            .deadline_ns()
            .store(now_ns + FRAME_ATTEMPT_NS, Ordering::Release);
        self.shared.limit().store(next + 1, Ordering::Release);
        let sent = setup.transmitter.send_frames(setup.object.programs(), 1);
        sent.map_err(|error| refused(&setup.link, "frames of a program", &error))?;
        let answered = self.is_answered(received + 1, FRAME_ATTEMPT_NS).await;
        self.shared.limit().store(0, Ordering::Release);
        Ok(answered)
    }

    async fn is_answered(&self, received: u64, timeout_ns: u64) -> bool {
        let end_ns = monotonic_ns() + timeout_ns;
        loop {
            if self.shared.counted().of(Count::Received) >= received {
                return true;
            }
            if monotonic_ns() >= end_ns {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Continues in mode `sendmmsg`.
    fn fall_back(&mut self, setup: &mut Setup, reason: String) -> Result<(), VolleyError> {
        self.plan.send_by_socket(reason);
        setup.settings.flags = flags(Mode::Sendmmsg, self.one_way);
        setup.object.set_settings(&setup.settings)?;
        Ok(())
    }

    /// Resets the counts, and starts to send.
    fn begin(&mut self, setup: Setup) -> Result<(), VolleyError> {
        let next = self.shared.next().load(Ordering::Acquire);
        // Replies to the first probes may still come, and a program may be counting one of them.
        self.shared.lose(FIRST, next);
        wait_for_programs();
        self.shared.balls_in_flight().store(0, Ordering::Release);
        self.reflector = ReflectorCounter::after(&self.shared.counted().newest);
        self.shared.reset();
        self.first = next;
        self.sent_before = next - FIRST;
        let now_ns = monotonic_ns();
        self.deadline_ns = setup
            .config
            .duration_ns
            .map_or(u64::MAX, |duration_ns| now_ns.saturating_add(duration_ns));
        let rate = self
            .plan
            .rate_per_s
            .map_or(0, |rate| ((u128::from(rate) * 1_024) << 32) / u128::from(NS_PER_S));
        // Without a rate, the whole run may leave ahead of it.
        let burst = self
            .plan
            .rate_per_s
            .map_or(u64::MAX / 4, |_| 4 * u64::from(self.plan.burst.probes));
        self.shared.rate().store(rate as u64, Ordering::Release);
        self.shared.burst().store(burst, Ordering::Release);
        self.shared.balls().store(self.plan.balls.into(), Ordering::Release);
        self.shared.start_ns().store(now_ns, Ordering::Release);
        self.shared.first().store(next, Ordering::Release);
        self.shared.deadline_ns().store(self.deadline_ns, Ordering::Release);
        if self.plan.mode != Mode::Sendmmsg {
            self.links.egress = None;
        }
        let Setup {
            object,
            transmitter,
            link,
            ..
        } = setup;
        let launcher = Launcher::start(
            Arc::clone(&self.shared),
            object.into_programs(),
            transmitter,
            &self.plan,
            link.index,
            next,
        );
        self.launcher =
            Some(launcher.map_err(|error| VolleyError::Refused(format!("cannot start a thread: {error}")))?);
        Ok(())
    }
}

/// Waits until each program that is running now has ended: programs are RCU readers, and this command waits for all of
/// them (`kernel/sched/membarrier.c`).
fn wait_for_programs() {
    // SAFETY: the system call takes integers only.
    let outcome = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if outcome != 0 {
        // Kernels with `nohz_full` refuse it. A program takes microseconds.
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn flags(mode: Mode, one_way: bool) -> u32 {
    let relay = if mode == Mode::Volley { RELAY } else { 0 };
    relay | if one_way { ONE_WAY } else { 0 }
}

/// The current second on both clocks.
fn epoch(wall: &WallOffset) -> Epoch {
    let now_ns = monotonic_ns();
    let wall_ns = wall.wall_ns(now_ns);
    Epoch {
        unix_s: wall_ns / NS_PER_S,
        mono_ns: now_ns.wrapping_sub(wall_ns % NS_PER_S),
    }
}

/// A random session identifier, so that the reflector's counter starts at 0; never 0, which means none.
fn session() -> u16 {
    RandomState::new().hash_one(0) as u16 | 1
}

fn attach_xdp(object: &mut VolleyObject, link: &Link) -> Result<XdpLink, VolleyError> {
    let program = object.xdp()?;
    let attached = program
        .attach_to_if_index(link.index, XdpMode::Driver)
        .and_then(|id| program.take_link(id));
    attached.map_err(|error| match link.xdp {
        Some(xdp) => VolleyError::Refused(format!(
            "{} has {} already, and an interface has room for one; detach it for the time of the run, or use mode sendmmsg",
            link.name,
            describe_program(xdp.program_id)
        )),
        None => refused(link, "the XDP program in native mode", &error),
    })
}

fn attach_ingress(object: &mut VolleyObject, link: &Link) -> Result<Classifier, VolleyError> {
    let attached = classifier_before_others(object.classifier(INGRESS)?, link, TcAttachType::Ingress);
    attached.map_err(|error| refused(link, "the receive program (tc)", &error))
}

fn refused(link: &Link, what: &str, error: &ProgramError) -> VolleyError {
    VolleyError::Refused(format!("{} does not take {what}: {}", link.name, root_cause(error)))
}
