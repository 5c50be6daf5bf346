//! The comparison in plain words.

use probe_core::compare::versus::ratio;
use probe_core::compare::{Method, Phase};

use crate::output::compare::{Comparison, PhaseResult, parts};
use crate::output::quantity::duration;

/// What follows from the numbers, one sentence or two each.
pub(super) fn sentences(comparison: &Comparison) -> Vec<String> {
    let floor_ns = comparison.setting.floor.map(|floor| floor.p99);
    let mut said: Vec<String> = Vec::new();
    for result in &comparison.phases {
        said.extend(of_userspace(result, floor_ns));
        said.extend(of_anatomy(result));
        said.extend(of_socket(result, floor_ns));
    }
    said.extend(of_load(&comparison.phases));
    if said.is_empty() {
        said.push("There is nothing to compare: fewer than two methods were answered.".to_owned());
    }
    said
}

fn when(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "Idle",
        Phase::Loaded => "Under load",
    }
}

/// `8.7 times`, `134 times`.
pub(super) fn times(ratio: f64) -> String {
    if ratio < 100.0 {
        format!("{ratio:.1} times")
    } else {
        format!("{ratio:.0} times")
    }
}

fn of_userspace(result: &PhaseResult, floor_ns: Option<i64>) -> Option<String> {
    let (process, kernel) = (result.rtt(Method::Userspace)?, result.rtt(Method::Kernel)?);
    let medians = [process.p50, kernel.p50];
    let [of_processes, of_kernel] = medians.map(duration);
    let median = format!(
        "{}, processes that stamp for themselves say {of_processes} (median) where the kernel's stamps say {of_kernel}: {}.",
        when(result.phase),
        beside(medians, floor_ns)
    );
    let tails = [process.p99, kernel.p99];
    let [of_processes, of_kernel] = tails.map(duration);
    Some(format!(
        "{median} One probe in a hundred takes them {of_processes} or more, and the kernel's {of_kernel}: {}.",
        beside(tails, floor_ns)
    ))
}

/// What is to be said of a figure of a process beside the same one of the kernel.
fn beside([process_ns, kernel_ns]: [i64; 2], floor_ns: Option<i64>) -> String {
    let difference_ns = process_ns - kernel_ns;
    if difference_ns == 0 || floor_ns.is_some_and(|floor_ns| difference_ns.abs() < floor_ns) {
        return "they differ by less than what this machine can tell apart".to_owned();
    }
    match (difference_ns > 0, ratio(process_ns, kernel_ns)) {
        (true, Some(ratio)) => format!("{} as much", times(ratio)),
        (true, None) => format!("{} more", duration(difference_ns)),
        (false, _) => format!(
            "{} less, so that nothing speaks for the kernel's here",
            duration(-difference_ns)
        ),
    }
}

fn of_anatomy(result: &PhaseResult) -> Option<String> {
    let anatomy = result.anatomy.as_ref()?;
    // Of the mean of all, one probe that waited long would be the whole.
    let half = anatomy.middle_half();
    let whole = half.watched.summary()?;
    let way: i64 = [&half.forward, &half.backward, &half.path]
        .into_iter()
        .filter_map(|part| part.summary())
        .map(|part| part.mean)
        .sum();
    let share = ratio(whole.mean - way, whole.mean)?;
    let (name, largest) = parts(&half).into_iter().max_by_key(|(_, part)| part.mean)?;
    let (_, of_all) = parts(anatomy).into_iter().find(|(other, _)| *other == name)?;
    Some(format!(
        "{}, {:.0} % of a usual round trip of a process is spent in the two hosts and not on the way between the \
         ports; the largest part is {name} (usually {}, and {} or more in one probe of a hundred).",
        when(result.phase),
        share * 100.0,
        duration(largest.mean),
        duration(of_all.p99),
    ))
}

fn of_socket(result: &PhaseResult, floor_ns: Option<i64>) -> Option<String> {
    let (socket, kernel) = (result.rtt(Method::Socket)?, result.rtt(Method::Kernel)?);
    let bias_ns = result.versus(Method::Socket)?.bias_ns;
    let judgement = if floor_ns.is_some_and(|floor_ns| bias_ns.abs() < floor_ns) {
        "as near to kstamp's own as this machine can tell".to_owned()
    } else {
        let more = if bias_ns < 0 { "less" } else { "more" };
        format!("{} {more} than kstamp's own", duration(bias_ns.abs()))
    };
    Some(format!(
        "{}, the kernel's stamps for sockets say {} (median), {judgement}; their p99 is {}, kstamp's {}.",
        when(result.phase),
        duration(socket.p50),
        duration(socket.p99),
        duration(kernel.p99),
    ))
}

fn of_load(phases: &[PhaseResult]) -> Option<String> {
    let rtt = |phase, method| {
        let result = phases.iter().find(|result| result.phase == phase)?;
        result.rtt(method)
    };
    let change = |method, whose: &str| {
        let (idle, loaded) = (rtt(Phase::Idle, method)?.p99, rtt(Phase::Loaded, method)?.p99);
        let factor = times(ratio(loaded, idle)?);
        let [idle, loaded] = [idle, loaded].map(duration);
        Some(format!("{whose} is {idle} idle and {loaded} under load, {factor}"))
    };
    let kernel = change(Method::Kernel, "kstamp's p99")?;
    let process = change(Method::Userspace, "; that of processes").unwrap_or_default();
    Some(format!("{kernel}{process}."))
}
