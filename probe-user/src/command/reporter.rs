//! From what the core and the engine say to what the output writes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::core::event::{Event, Found};
use crate::core::report::Report;
use crate::core::session::Outcome;
use crate::engine::ebpf::plan::ReceiveMode;
use crate::engine::ebpf::{Port, PortEvent};
use crate::host::clock::{ClockState, monotonic_ns, realtime_ns};
use crate::identity::Identity;
use crate::output::results::{Context, Results, Sample, SampleState};
use crate::output::samples::Samples;
use crate::output::sink::OutputError;
use crate::output::time::{Utc, UtcOffset};
use crate::output::{Format, Output, model};

/// Where results go.
#[derive(Debug, Clone)]
pub struct OutputConfig {
    /// In which form.
    pub format: Format,
    /// To which file, if not to standard output.
    pub output: Option<PathBuf>,
    /// To which file every probe is written, if to any.
    pub samples: Option<PathBuf>,
}

/// What a start record says beside what the port knows.
pub struct Subject<'a> {
    /// The agent's name.
    pub name: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The test port.
    pub port: u16,
    /// The joined groups.
    pub groups: &'a [IpAddr],
    /// Time between two probes of a session; `None` of a reflector.
    pub interval_ns: Option<u64>,
    /// Time after which a probe is lost; `None` of a reflector.
    pub timeout_ns: Option<u64>,
}

/// Writes results as they come.
pub struct Reporter {
    output: Output,
    samples: Option<Samples>,
    attach: model::Attach,
    names: BTreeMap<IpAddr, Identity>,
    windows: Vec<Report>,
}

impl Reporter {
    /// Opens the files, before anything is measured.
    pub fn open(config: &OutputConfig) -> Result<Self, OutputError> {
        Ok(Self {
            output: Output::open(config.format, config.output.as_deref())?,
            samples: config.samples.as_deref().map(Samples::create).transpose()?,
            attach: model::Attach { egress: model::AttachMode::Tc, receive: model::AttachMode::Tc },
            names: BTreeMap::new(),
            windows: Vec::new(),
        })
    }

    /// The programs are attached.
    pub fn start(&mut self, subject: &Subject<'_>, port: &Port) -> Result<(), OutputError> {
        let (receive, reason) = port.attachment().unwrap_or((ReceiveMode::Tc, ""));
        self.attach.receive = attach_mode(receive);
        self.output.export(&model::Event::Start(model::Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interface: subject.interface.to_owned(),
            attach: self.attach,
            attach_reason: reason.to_owned(),
            engine: model::Engine::Ebpf,
            clock: clock(port.clock()),
            kernel: kernel_release(),
            name: subject.name.to_owned(),
            addresses: port.addresses(),
            port: subject.port,
            groups: subject.groups.to_vec(),
            interval_ns: subject.interval_ns,
            timeout_ns: subject.timeout_ns,
            time: now(),
        }))
    }

    /// `peer` has told who it is.
    pub fn introduced(&mut self, peer: IpAddr, identity: &Identity) {
        self.names.insert(peer, identity.clone());
    }

    /// Something happened to the interface.
    pub fn port_event(&mut self, interface: &str, event: &PortEvent) -> Result<(), OutputError> {
        let change = |event| {
            model::Event::Interface(model::InterfaceChange { event, interface: interface.to_owned(), time: now() })
        };
        let event = match event {
            PortEvent::Down => change(model::InterfaceEvent::Down),
            PortEvent::Up => change(model::InterfaceEvent::Up),
            PortEvent::Deleted => change(model::InterfaceEvent::Deleted),
            PortEvent::Back => change(model::InterfaceEvent::Back),
            PortEvent::Reattached { mode, reason } => {
                self.attach.receive = attach_mode(*mode);
                model::Event::Attach(model::AttachChange {
                    receive: self.attach.receive,
                    reason: reason.clone(),
                    time: now(),
                })
            }
        };
        self.output.export(&event)
    }

    /// Something that the core has to tell. Windows are kept until [`Reporter::flush_windows`].
    pub fn event(&mut self, event: Event) -> Result<(), OutputError> {
        match event {
            Event::PeerUp { peer, found } => self.peer(model::PeerEvent::Up, peer, found),
            Event::PeerDown { peer, found } => self.peer(model::PeerEvent::Down, peer, found),
            Event::Window(report) => {
                self.windows.push(*report);
                Ok(())
            }
            Event::Sample { peer, path, seq, reply, outcome } => {
                let Some(samples) = &mut self.samples else {
                    return Ok(());
                };
                samples.add(&match reply {
                    Some(reply) => Sample::answered(path, &reply, state(outcome)),
                    None => Sample::lost(path, peer, seq),
                })
            }
        }
    }

    /// Whether there are windows to write.
    pub fn has_windows(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Writes the windows that have come, as one table.
    pub fn flush_windows(&mut self) -> Result<(), OutputError> {
        let mut windows = std::mem::take(&mut self.windows);
        windows.sort_by_key(|report| (report.end_ns, report.peer, report.path));
        let results = self.results(&windows);
        if let Some(samples) = &mut self.samples {
            samples.flush()?;
        }
        self.output.export(&model::Event::Windows(model::Windows { time: now(), results }))
    }

    /// The kernel's counters while the run goes on.
    pub fn counters(&mut self, counters: &BTreeMap<&'static str, u64>) -> Result<(), OutputError> {
        self.output.export(&model::Event::Counters(named(counters)))
    }

    /// The run is over.
    pub fn end(&mut self, summaries: &[Report], counters: &BTreeMap<&'static str, u64>) -> Result<(), OutputError> {
        if self.has_windows() {
            self.flush_windows()?;
        }
        let results = self.results(summaries);
        self.output.export(&model::Event::End(model::End { results, counters: named(counters) }))
    }

    fn peer(&mut self, event: model::PeerEvent, peer: IpAddr, found: Found) -> Result<(), OutputError> {
        let identity = self.names.get(&peer);
        self.output.export(&model::Event::Peer(model::PeerChange {
            event,
            peer,
            found: match found {
                Found::Multicast => model::Found::Multicast,
                Found::Static => model::Found::Static,
            },
            name: identity.map(|identity| identity.name.clone()),
            version: identity.map(|identity| identity.version.clone()),
            time: now(),
        }))
    }

    fn results(&self, reports: &[Report]) -> Vec<Results> {
        let utc = UtcOffset::new(monotonic_ns(), realtime_ns());
        let result = |report: &Report| {
            let peer_name = self.names.get(&report.peer).map(|identity| identity.name.as_str());
            Results::new(report, Context { utc, attach: self.attach, peer_name })
        };
        reports.iter().map(result).collect()
    }
}

fn attach_mode(mode: ReceiveMode) -> model::AttachMode {
    match mode {
        ReceiveMode::XdpNative => model::AttachMode::XdpNative,
        ReceiveMode::XdpGeneric => model::AttachMode::XdpGeneric,
        ReceiveMode::Tc => model::AttachMode::Tc,
    }
}

fn state(outcome: Outcome) -> SampleState {
    match outcome {
        Outcome::Ok => SampleState::Ok,
        Outcome::Lost => SampleState::Lost,
        Outcome::Late => SampleState::Late,
        Outcome::Duplicate => SampleState::Duplicate,
    }
}

fn clock(state: ClockState) -> model::Clock {
    model::Clock {
        synchronised: state.synchronised,
        error_ns: state.error_ns,
        tai_offset_s: state.tai_offset_s,
    }
}

fn named(counters: &BTreeMap<&'static str, u64>) -> model::Counters {
    model::Counters(counters.iter().map(|(&name, &value)| (name.to_owned(), value)).collect())
}

fn now() -> Utc {
    Utc { unix_ns: realtime_ns() }
}

fn kernel_release() -> String {
    nix::sys::utsname::uname().map(|uname| uname.release().to_string_lossy().into_owned()).unwrap_or_default()
}
