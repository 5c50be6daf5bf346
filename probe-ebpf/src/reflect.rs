//! The session-reflector (RFC 8762 §4.3), stateful.

use aya_ebpf::bindings::BPF_NOEXIST;
use probe_common::abi::{
    Address, Counter, DESTINATION_GROUP, DESTINATION_OWN, MAX_ECHO_LEN, ReflectorSession, ReflectorSessionKey, Settings,
};
use probe_common::checksum::Found;
use probe_common::frame::{Family, Udp};
use probe_common::ntp::NtpTime;
use probe_common::reflect::{Answer, BaseFrame, Frame, V4, V4_HEADERS, V6, V6_HEADERS, answer};
use probe_common::stamp::{BASE_LEN, MIN_PROBE_LEN};

use crate::atomic::fetch_add;
use crate::count::count;
use crate::hook::Hook;
use crate::maps::{DESTINATIONS, REFLECTOR_SESSIONS};
use crate::payload::{self, Beyond};
use crate::policy::Wish;
use crate::{clock, echo, policy};

/// Turns a probe into its reply. `Ok` means that it is to be transmitted.
#[inline(always)]
pub fn reflect<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<Counter, Counter> {
    let receive_ns = clock::unix_ns(settings);
    if udp.source_port == settings.test_port {
        return Err(Counter::SourcePort);
    }
    let payload_at = match udp.family {
        Family::V4 => V4_HEADERS,
        Family::V6 => V6_HEADERS,
    };
    // Bytes between the datagram's end and the IP packet's would be sent back unread, or might not even be there.
    let is_whole = udp.ip_payload_len == udp.udp_len;
    let beyond = match udp.payload_len() {
        Some(BASE_LEN) if is_whole => Beyond::NOTHING,
        Some(length @ 1..=MAX_ECHO_LEN) if is_whole => match payload::digits(hook, payload_at, length) {
            Some(number) => return echo::echo(hook, udp, settings, number, receive_ns),
            None if length < MIN_PROBE_LEN => return Err(Counter::Malformed),
            None => return Err(Counter::PassedUp),
        },
        Some(length) if is_whole && length > BASE_LEN => {
            payload::padding(hook, payload_at, length).ok_or(Counter::PassedUp)?
        }
        Some(MIN_PROBE_LEN..) => return Err(Counter::PassedUp),
        _ => return Err(Counter::Malformed),
    };
    let counter = match udp.family {
        Family::V4 => hook.edit(|frame: &mut V4| turn(frame, settings, receive_ns, beyond)),
        Family::V6 => hook.edit(|frame: &mut V6| turn(frame, settings, receive_ns, beyond)),
    }?;
    if beyond.clears_flags && !hook.store(payload_at + BASE_LEN, 0) {
        return Err(Counter::ReflectFailed);
    }
    if udp.payload_len() != Some(BASE_LEN) {
        count(Counter::Padded);
    }
    Ok(counter)
}

#[inline(always)]
fn turn<F: BaseFrame>(frame: &mut F, settings: &Settings, receive_ns: u64, beyond: Beyond) -> Result<Counter, Counter> {
    if !frame.source_is_answerable() || !frame.is_from_station() {
        return Err(Counter::BadSource);
    }
    let checksum = frame.checksum(beyond.request);
    if checksum == Found::Wrong || !frame.network_is_intact() {
        return Err(Counter::BadChecksum);
    }
    if frame.is_reply_shaped() {
        return Err(Counter::ReplyShaped);
    }
    let (own, group) = meant(frame, settings)?;
    let source = frame.source();
    policy::admit(settings, &source, wish_of(group), receive_ns)?;
    let sequence = next_sequence(&ReflectorSessionKey {
        source,
        destination: frame.destination(),
        source_port: frame.source_port(),
        ssid: frame.ssid(),
        reserved: 0,
    })?;
    let fields = Answer {
        mac: settings.mac,
        own: &own,
        sequence,
        receive: NtpTime::from_unix_ns(receive_ns),
        error: settings.error_estimate,
        beyond: beyond.reply,
        partial: checksum == Found::Partial && settings.partial_checksums != 0,
    };
    answer(frame, &fields, || NtpTime::from_unix_ns(clock::unix_ns(settings)));
    Ok(if group {
        Counter::ReflectedGroup
    } else {
        Counter::Reflected
    })
}

/// What who sent a probe by unicast or to a group wants.
#[inline(always)]
pub fn wish_of(group: bool) -> Wish {
    if group { Wish::Group } else { Wish::Unicast }
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

/// What is to become of a probe that was not answered for the reason `counter`: whatever would reach userspace is charged
/// to its source, and not passed up if that may not be answered or has used up its share.
#[inline(always)]
pub fn pass_up<H: Hook>(hook: &H, udp: &Udp, settings: &Settings, counter: Counter) -> Counter {
    // What another program of ours has passed on has been charged.
    if !counter.reaches_userspace() || hook.is_second(settings) {
        return counter;
    }
    let refusal = match udp.family {
        Family::V4 => hook.view(|frame: &mut V4<V4_HEADERS>| charge(frame, settings)),
        Family::V6 => hook.view(|frame: &mut V6<V6_HEADERS>| charge(frame, settings)),
    };
    match refusal {
        Some(Err(refusal)) => refusal,
        _ => counter,
    }
}

/// `Err` says why userspace is not to see this packet; the network header is where it always is.
#[inline(always)]
fn charge<F: Frame>(frame: &mut F, settings: &Settings) -> Result<(), Counter> {
    if meant(frame, settings).is_err() {
        return Ok(());
    }
    let now_ns = clock::unix_ns(settings);
    policy::admit(settings, &frame.source(), Wish::Userspace, now_ns)
}

/// The session's counter before this reply; a session that is not known begins at zero.
#[inline(always)]
fn next_sequence(key: &ReflectorSessionKey) -> Result<u32, Counter> {
    if let Some(sequence) = advance(key) {
        return Ok(sequence);
    }
    let first = ReflectorSession { replies: 1 };
    if REFLECTOR_SESSIONS.insert(key, first, u64::from(BPF_NOEXIST)).is_ok() {
        count(Counter::SessionStarted);
        return Ok(0);
    }
    // Another CPU was faster.
    advance(key).ok_or(Counter::ReflectFailed)
}

#[inline(always)]
fn advance(key: &ReflectorSessionKey) -> Option<u32> {
    let session = REFLECTOR_SESSIONS.get_ptr_mut(key)?;
    // SAFETY: map values stay readable and writable for the program's run, even if evicted.
    Some(unsafe { fetch_add(&raw mut (*session).replies, 1) } as u32)
}
