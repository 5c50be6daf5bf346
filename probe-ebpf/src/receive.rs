//! The first step of a packet that comes in: probe, reply, or not kstamp's.

use aya_log_ebpf::debug;
use probe_common::abi::{ABI_VERSION, Counter, Settings};
use probe_common::frame::{self, Obstacle, Udp};

use crate::atomic::compiler_barrier;
use crate::hook::Hook;
use crate::maps::{SETTINGS, count};
use crate::{collect, reflect};

/// Reflects a probe, collects a reply, and lets everything else pass.
#[inline(always)]
pub fn receive<H: Hook>(hook: &mut H) -> H::Verdict {
    let Some(settings) = SETTINGS.get(0) else {
        return H::PASS;
    };
    if frame::is_foreign(hook, |source, destination| settings.may_receive(source, destination)) {
        return H::PASS;
    }
    // Values that were read so far are read again, so the verifier has one path to follow for all other frames.
    compiler_barrier();
    let Some(udp) = frame::udp(hook) else {
        return H::PASS;
    };
    if settings.is_probe(&udp) {
        let may_be_taken = may_be_taken(hook, &udp, settings);
        let outcome = reflect::reflect(hook, &udp, settings, may_be_taken);
        finish(hook, settings, outcome, |hook| hook.transmit(settings))
    } else if settings.is_reply(&udp) {
        let outcome = may_be_taken(hook, &udp, settings).and_then(
            #[inline(always)]
            |()| collect::collect(hook, &udp, settings),
        );
        finish(hook, settings, outcome, |_| H::CONSUME)
    } else {
        H::PASS
    }
}

/// `Err` is the outcome of a packet that is kstamp's by its ports, but not for the programs.
#[inline(always)]
fn may_be_taken<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<(), Counter> {
    if settings.abi_version != ABI_VERSION {
        return Err(Counter::AbiMismatch);
    }
    if hook.untagged() {
        return Err(Counter::Vlan);
    }
    match udp.obstacle {
        None => Ok(()),
        Some(Obstacle::Vlan) => Err(Counter::Vlan),
        Some(Obstacle::IpOptions) => Err(Counter::IpOptions),
        Some(Obstacle::Extension) => Err(Counter::Extension),
        Some(Obstacle::Fragment) => Err(Counter::Fragment),
    }
}

/// Counts the outcome. A packet that was not taken passes, unless the policy has refused it: passing up a flood would
/// load this host.
#[inline(always)]
fn finish<H: Hook>(
    hook: &H,
    settings: &Settings,
    outcome: Result<Counter, Counter>,
    taken: impl FnOnce(&H) -> H::Verdict,
) -> H::Verdict {
    match outcome {
        Ok(counter) => {
            count(counter);
            debug!(hook.context(), "taken: counter {}", counter as u32);
            taken(hook)
        }
        Err(counter) if counter.is_dropped() => {
            count(counter);
            debug!(hook.context(), "dropped: counter {}", counter as u32);
            H::CONSUME
        }
        Err(counter) => {
            if !hook.is_second(settings) {
                count(counter);
                debug!(hook.context(), "passed: counter {}", counter as u32);
            }
            H::PASS
        }
    }
}
