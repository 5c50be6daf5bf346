//! Whether a packet is to be answered, and how.

use core::ptr;

use probe_common::abi::{ABI_VERSION, Address, Counter, DESTINATION_GROUP, DESTINATION_OWN, MAX_ECHO_LEN, Settings};
use probe_common::checksum::{Found, Sum};
use probe_common::frame::{Family, Udp};
use probe_common::reflect::{BaseFrame, Frame, V4, V4_HEADERS, V6, V6_HEADERS};
use probe_common::stamp::{BASE_LEN, MIN_PROBE_LEN};

use crate::echo;
use crate::hook::Hook;
use crate::maps::DESTINATIONS;
use crate::payload::{self, Beyond};

/// What a packet carries that programs answer.
#[derive(Clone, Copy)]
enum Payload {
    /// A base packet, and this behind it.
    Test(Beyond),
    /// An older agent's number, which adds up to this.
    Number(Sum),
}

/// An answer that is to be given, whatever the packet's IP version.
pub struct Task {
    /// Who asks.
    pub source: Address,
    /// Where.
    pub destination: Address,
    /// From where it is answered.
    pub own: Address,
    /// What the answer's bytes add up to, beyond a base packet or as a number.
    pub sum: Sum,
    /// Bits, as below.
    flags: u32,
}

impl Task {
    /// The packet came by a group.
    pub const GROUP: u32 = 1;
    /// Its UDP checksum was left to a device, and the answer's may be.
    pub const PARTIAL: u32 = 1 << 1;
    /// It is of IPv6.
    pub const V6: u32 = 1 << 2;
    /// It is an older agent's number.
    pub const NUMBER: u32 = 1 << 3;
    /// Something is beyond a base packet.
    pub const PADDED: u32 = 1 << 4;
    /// That is a TLV whose flags the answer has cleared.
    pub const CLEARS_FLAGS: u32 = 1 << 5;

    /// Whether the bit `flag` is set.
    #[inline(always)]
    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The same task, of which the verifier knows no more than that it is one. It goes through all that follows once for
    /// each thing that it knows, and there are dozens of kinds of tasks.
    #[inline(always)]
    fn hidden(self, settings: &Settings) -> Self {
        // Zero, since no packet is taken before the loader's version has been compared with ours.
        // SAFETY: a reference can be read.
        let zero = unsafe { ptr::read_volatile(&raw const settings.abi_version) } ^ ABI_VERSION;
        Self {
            sum: self.sum.long(zero.to_ne_bytes()),
            flags: self.flags | zero,
            ..self
        }
    }
}

/// What is to be answered; `Err` is how it is counted where nothing is.
#[inline(always)]
pub fn judge<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<Task, Counter> {
    let judged = match (payload(hook, udp, settings)?, udp.family) {
        (Payload::Test(beyond), Family::V4) => hook.view(|frame: &mut V4| judge_test(frame, settings, beyond)),
        (Payload::Test(beyond), Family::V6) => hook.view(|frame: &mut V6| judge_test(frame, settings, beyond)),
        (Payload::Number(sum), Family::V4) => {
            hook.view(|frame: &mut V4<V4_HEADERS>| judge_number(frame, udp, settings, sum))
        }
        (Payload::Number(sum), Family::V6) => {
            hook.view(|frame: &mut V6<V6_HEADERS>| judge_number(frame, udp, settings, sum))
        }
    };
    Ok(judged.ok_or(Counter::Malformed)??.hidden(settings))
}

/// What a datagram carries; `Err` is how it is counted where that is nothing of ours.
#[inline(always)]
fn payload<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<Payload, Counter> {
    if udp.source_port == settings.test_port {
        return Err(Counter::SourcePort);
    }
    let at = match udp.family {
        Family::V4 => V4_HEADERS,
        Family::V6 => V6_HEADERS,
    };
    // Bytes between the datagram's end and the IP packet's would be sent back unread, or might not even be there.
    let is_whole = udp.ip_payload_len == udp.udp_len;
    match udp.payload_len() {
        Some(BASE_LEN) if is_whole => Ok(Payload::Test(Beyond::NOTHING)),
        Some(length @ 1..=MAX_ECHO_LEN) if is_whole => match payload::digits(hook, at, length) {
            Some(sum) => Ok(Payload::Number(sum)),
            None if length < MIN_PROBE_LEN => Err(Counter::Malformed),
            None => Err(Counter::PassedUp),
        },
        Some(length) if is_whole && length > BASE_LEN => {
            let beyond = payload::padding(hook, at, length).ok_or(Counter::PassedUp)?;
            Ok(Payload::Test(beyond))
        }
        Some(MIN_PROBE_LEN..) => Err(Counter::PassedUp),
        _ => Err(Counter::Malformed),
    }
}

#[inline(always)]
fn judge_test<F: BaseFrame>(frame: &F, settings: &Settings, beyond: Beyond) -> Result<Task, Counter> {
    let is_reply = frame.is_reply_shaped().then_some(Counter::ReplyShaped);
    let task = judge_frame(frame, settings, frame.checksum(beyond.request), is_reply)?;
    Ok(Task {
        sum: beyond.reply,
        flags: task.flags | beyond.flags,
        ..task
    })
}

#[inline(always)]
fn judge_number<F: Frame>(frame: &F, udp: &Udp, settings: &Settings, sum: Sum) -> Result<Task, Counter> {
    let is_echo = echo::may_loop(frame, udp).then_some(Counter::EchoLoop);
    let task = judge_frame(frame, settings, frame.checksum_over(sum), is_echo)?;
    Ok(Task {
        sum,
        flags: task.flags | Task::NUMBER,
        ..task
    })
}

/// Judges a packet whose UDP checksum was found to be `checksum`. `answer` is the counter if it is an answer itself.
#[inline(always)]
fn judge_frame<F: Frame>(
    frame: &F,
    settings: &Settings,
    checksum: Found,
    answer: Option<Counter>,
) -> Result<Task, Counter> {
    if !frame.source_is_answerable() || !frame.is_from_station() {
        return Err(Counter::BadSource);
    }
    if checksum == Found::Wrong || !frame.network_is_intact() {
        return Err(Counter::BadChecksum);
    }
    if let Some(counter) = answer {
        return Err(counter);
    }
    let (own, group) = meant(frame, settings)?;
    let partial = checksum == Found::Partial && settings.partial_checksums != 0;
    let bit = |is: bool, flag: u32| if is { flag } else { 0 };
    Ok(Task {
        source: frame.source(),
        destination: frame.destination(),
        own,
        sum: Sum::ZERO,
        flags: bit(group, Task::GROUP) | bit(partial, Task::PARTIAL) | bit(F::IS_V6, Task::V6),
    })
}

/// Whether a probe is meant for this host: the address to answer it from, and whether it came by a group.
#[inline(always)]
pub fn meant<F: Frame>(frame: &F, settings: &Settings) -> Result<(Address, bool), Counter> {
    let destination = frame.destination();
    if kind_of(&destination, F::first_own(settings))? == DESTINATION_GROUP {
        let own = frame.own_address(settings).ok_or(Counter::NoOwnAddress)?;
        Ok((own, true))
    } else if frame.is_for_mac(settings.mac) {
        Ok((destination, false))
    } else {
        Err(Counter::NotForUs)
    }
}

/// The kind of a destination; `first_own`, which most probes are sent to, needs no look at the map.
#[inline(always)]
fn kind_of(destination: &Address, first_own: Address) -> Result<u32, Counter> {
    if *destination == first_own && first_own != Address::NONE {
        return Ok(DESTINATION_OWN);
    }
    // SAFETY: the loader replaces no entry while packets flow, it only adds and removes; the value is one word.
    unsafe { DESTINATIONS.get(destination) }
        .copied()
        .ok_or(Counter::NotForUs)
}
