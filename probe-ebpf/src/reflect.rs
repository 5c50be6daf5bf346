//! The session-reflector (RFC 8762 §4.3), stateful: what was judged to be answered is charged to its source, and its
//! frame turned around.

use aya_ebpf::bindings::BPF_NOEXIST;
use probe_common::abi::{Address, Counter, ReflectorSession, ReflectorSessionKey, Settings};
use probe_common::frame::{Family, UDP_LEN, Udp};
use probe_common::ntp::NtpTime;
use probe_common::reflect::{Answer, Frame, V4, V4_HEADERS, V6, V6_HEADERS, answer};
use probe_common::stamp::{BASE_LEN, SSID};

use crate::atomic::fetch_add;
use crate::count::count;
use crate::hook::Hook;
use crate::judge::{Task, judge, meant};
use crate::maps::REFLECTOR_SESSIONS;
use crate::policy::Wish;
use crate::{clock, echo, policy};

/// Turns a probe into its reply. `Ok` means that it is to be transmitted.
#[inline(always)]
pub fn reflect<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<Counter, Counter> {
    let receive_ns = clock::unix_ns(settings);
    let task = judge(hook, udp, settings)?;
    let wish = if task.is(Task::GROUP) {
        Wish::Group
    } else {
        Wish::Unicast
    };
    policy::admit(settings, &task.source, wish, receive_ns)?;
    if task.is(Task::NUMBER) {
        echo::answer(hook, settings, &task)
    } else {
        answer_test(hook, settings, &task, receive_ns)
    }
}

#[inline(always)]
fn answer_test<H: Hook>(hook: &H, settings: &Settings, task: &Task, receive_ns: u64) -> Result<Counter, Counter> {
    let payload_at = if task.is(Task::V6) { V6_HEADERS } else { V4_HEADERS };
    let (source_port, ssid) = (hook.load(payload_at - UDP_LEN), hook.load(payload_at + SSID));
    let sequence = next_sequence(&ReflectorSessionKey {
        source: task.source,
        destination: task.destination,
        source_port: source_port.ok_or(Counter::ReflectFailed)?,
        ssid: ssid.ok_or(Counter::ReflectFailed)?,
        reserved: 0,
    })?;
    let fields = Answer {
        mac: settings.mac,
        own: &task.own,
        sequence,
        receive: NtpTime::from_unix_ns(receive_ns),
        error: settings.error_estimate,
        beyond: task.sum,
        partial: task.is(Task::PARTIAL),
    };
    let transmit = || NtpTime::from_unix_ns(clock::unix_ns(settings));
    let turned = if task.is(Task::V6) {
        hook.change(|frame: &mut V6| answer(frame, &fields, transmit))
    } else {
        hook.change(|frame: &mut V4| answer(frame, &fields, transmit))
    };
    if !turned || task.is(Task::CLEARS_FLAGS) && !hook.store(payload_at + BASE_LEN, 0) {
        return Err(Counter::ReflectFailed);
    }
    if task.is(Task::PADDED) {
        count(Counter::Padded);
    }
    Ok(if task.is(Task::GROUP) {
        Counter::ReflectedGroup
    } else {
        Counter::Reflected
    })
}

/// What is to become of a probe that was not answered for the reason `counter`: whatever would reach userspace is charged
/// to its source, and not passed up if that may not be answered or has used up its share.
#[inline(always)]
pub fn pass_up<H: Hook>(hook: &H, udp: &Udp, settings: &Settings, counter: Counter) -> Counter {
    // What another program of ours has passed on has been charged.
    if !counter.reaches_userspace() || hook.is_second(settings) {
        return counter;
    }
    let asker = match udp.family {
        Family::V4 => hook.view(|frame: &mut V4<V4_HEADERS>| asker(frame, settings)),
        Family::V6 => hook.view(|frame: &mut V6<V6_HEADERS>| asker(frame, settings)),
    };
    let Some(Some(source)) = asker else {
        return counter;
    };
    let admitted = policy::admit(settings, &source, Wish::Userspace, clock::unix_ns(settings));
    admitted.err().unwrap_or(counter)
}

/// Whose packet this is, if it is meant for this host; the network header is where it always is.
#[inline(always)]
fn asker<F: Frame>(frame: &F, settings: &Settings) -> Option<Address> {
    meant(frame, settings).is_ok().then(|| frame.source())
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
