//! A model network with known delays, losses, late and duplicate answers, and control channels that take
//! longer one way than the other.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A network of two switches with one link.
#[derive(Debug, Clone)]
struct Model {
    /// Controller to switch and back, in microseconds.
    down: [u64; 2],
    up: [u64; 2],
    /// Forward and backward, in microseconds.
    link: [u64; 2],
    noise: u64,
}

fn model() -> impl Strategy<Value = Model> {
    let channel = || [0u64..40_000, 0u64..40_000];
    (channel(), channel(), [0u64..60_000, 0u64..60_000], 0u64..400).prop_map(|(down, up, link, noise)| Model {
        down,
        up,
        link,
        noise,
    })
}

/// What happens to an answer.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Comes {
        noise: u64,
    },
    Lost,
    /// After the timeout.
    Late,
    Twice {
        noise: u64,
    },
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        12 => (0u64..1_000).prop_map(|noise| Fate::Comes { noise }),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Late),
        1 => (0u64..1_000).prop_map(|noise| Fate::Twice { noise }),
    ];
    proptest::collection::vec(fate, 200)
}

const PROBES: [Probe; 4] = [
    Probe::Lldp(PortId {
        dpid: Dpid(1),
        port: PortNumber(1),
    }),
    Probe::Lldp(PortId {
        dpid: Dpid(2),
        port: PortNumber(1),
    }),
    Probe::Echo(Dpid(1)),
    Probe::Echo(Dpid(2)),
];

impl Model {
    fn truth_us(&self, probe: Probe) -> u64 {
        let [first, second] = [0, 1];
        match probe {
            Probe::Lldp(port) if port.dpid == Dpid(1) => self.down[first] + self.link[first] + self.up[second],
            Probe::Lldp(_) => self.down[second] + self.link[second] + self.up[first],
            Probe::Echo(Dpid(1)) => self.down[first] + self.up[first],
            _ => self.down[second] + self.up[second],
        }
    }

    fn noise_us(&self, permille: u64) -> u64 {
        self.noise * permille / 1_000
    }
}

proptest! {
    #[test]
    fn the_round_trip_is_found_despite_asymmetric_control_channels(model in model(), fates in fates()) {
        let mut delay = LinkDelay::new(PERIOD, 0);
        for probe in PROBES {
            prop_assert!(delay.start(probe, 0));
        }
        let mut pending: Vec<ProbeAnswer> = Vec::new();
        let mut sent: HashMap<u64, u64> = HashMap::new();
        for fate in fates {
            let now_ns = delay.next_deadline().unwrap();
            // Answers received by now are read in order.
            pending.sort_by_key(|answer| answer.received_ns);
            let coming = pending.iter().take_while(|answer| answer.received_ns <= now_ns).count();
            for answer in pending.drain(..coming) {
                let took = delay.answer(&answer);
                if let Ok(took_ns) = took {
                    // Never paired with another send.
                    prop_assert_eq!(sent.remove(&answer.seq), Some(answer.sent_ns));
                    prop_assert_eq!(took_ns, answer.received_ns - answer.sent_ns);
                }
            }
            delay.expire(now_ns);
            let transmit = delay.poll_transmit(now_ns).unwrap();
            sent.insert(transmit.seq, now_ns);
            let took = |noise| (model.truth_us(transmit.probe) + model.noise_us(noise)) * 1_000;
            match fate {
                Fate::Lost => {}
                Fate::Comes { noise } => pending.push(answer(transmit, now_ns, took(noise))),
                Fate::Late => pending.push(answer(transmit, now_ns, TIMEOUT_NS + PERIOD)),
                Fate::Twice { noise } => {
                    pending.push(answer(transmit, now_ns, took(noise)));
                    pending.push(answer(transmit, now_ns, took(noise) + 30 * MS));
                }
            }
        }
        let windows = PROBES.map(|probe| delay.window(probe));
        let estimates = link_estimates(&LinkTerms {
            lldp: [windows[0], windows[1]],
            echo: [windows[2], windows[3]],
            ..LinkTerms::default()
        });
        if let Some(estimate) = estimates.lldp_echo {
            let truth_ns = i64::try_from((model.link[0] + model.link[1]) * 1_000).unwrap();
            let bound_ns = 2 * model.noise * 1_000;
            prop_assert!(estimate.rtt_ns.abs_diff(truth_ns) <= bound_ns, "{estimate:?} instead of {truth_ns}");
        }
        let ends = delay.ends();
        prop_assert!(ends.answered + ends.lost + ends.unheard <= ends.sent);
        prop_assert_eq!(ends.mismatched, 0);
    }

    #[test]
    fn there_is_no_burst_and_every_probe_is_sent(
        switches in 1u64..20,
        ports in 0u32..9,
        stalls in proptest::collection::vec(prop_oneof![20 => 0u64..MS, 1 => 0..3 * PERIOD], 300),
        leaving in 0u64..20,
    ) {
        let mut delay = LinkDelay::new(PERIOD, 0);
        let mut probes = 0u64;
        for dpid in 0..switches {
            delay.start(Probe::Echo(Dpid(dpid)), 0);
            (0..ports).for_each(|number| { delay.start(Probe::Lldp(port(dpid, number)), 0); });
            probes += 1 + u64::from(ports);
        }
        if switches > 1 {
            delay.stop(Probe::Echo(Dpid(leaving % switches)));
            probes -= 1;
        }
        let least_ns = PERIOD / (probes + 1).next_power_of_two() / 2;
        let mut before = None;
        for stall_ns in stalls {
            let now_ns = delay.next_deadline().unwrap().max(before.unwrap_or(0)) + stall_ns;
            if delay.poll_transmit(now_ns).is_none() {
                continue;
            }
            prop_assert!(delay.poll_transmit(now_ns).is_none(), "two at once");
            prop_assert!(before.is_none_or(|before| now_ns - before >= least_ns), "a burst");
            before = Some(now_ns);
        }
        // Undisturbed, each is sent once in a period.
        let mut count: HashMap<Probe, u32> = HashMap::new();
        let settled_ns = delay.next_deadline().unwrap() + 2 * PERIOD;
        loop {
            let due_ns = delay.next_deadline().unwrap();
            if due_ns >= settled_ns + PERIOD {
                break;
            }
            let transmit = delay.poll_transmit(due_ns).unwrap();
            if due_ns >= settled_ns {
                *count.entry(transmit.probe).or_default() += 1;
            }
        }
        prop_assert_eq!(count.len() as u64, probes);
        prop_assert!(count.values().all(|times| *times == 1), "{count:?}");
    }
}
