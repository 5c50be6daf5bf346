//! Conclusions from the figures, in sentences.

use probe_core::compare::versus::ratio;
use probe_core::compare::{Method, Phase};

use crate::command::compare::output::{Comparison, PhaseResult, parts};
use crate::output::quantity::duration;

pub fn sentences(comparison: &Comparison) -> Vec<String> {
    let floor_ns = comparison.setting.floor.map(|floor| floor.p99);
    let mut sentences: Vec<String> = Vec::new();
    for result in &comparison.phases {
        sentences.extend(of_userspace(result, floor_ns));
        sentences.extend(of_anatomy(result));
        sentences.extend(of_socket(result, floor_ns));
    }
    sentences.extend(of_load(&comparison.phases));
    if sentences.is_empty() {
        sentences.push("There is nothing to compare: fewer than two methods were answered.".to_owned());
    }
    sentences
}

fn when(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "Idle",
        Phase::Loaded => "Under load",
    }
}

/// `8.7 times`, `134 times`.
pub fn times(ratio: f64) -> String {
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
        "{}, timestamps taken in processes give {of_processes} (median) where the kernel's give {of_kernel}: {}.",
        when(result.phase),
        compared(medians, floor_ns)
    );
    let tails = [process.p99, kernel.p99];
    let [of_processes, of_kernel] = tails.map(duration);
    Some(format!(
        "{median} The 99th percentile is {of_processes} in processes and {of_kernel} in the kernel: {}.",
        compared(tails, floor_ns)
    ))
}

/// Compares a figure of processes with the same one of the kernel.
fn compared([process_ns, kernel_ns]: [i64; 2], floor_ns: Option<i64>) -> String {
    let difference_ns = process_ns - kernel_ns;
    if difference_ns == 0 || floor_ns.is_some_and(|floor_ns| difference_ns.abs() < floor_ns) {
        return "the difference is below the noise floor".to_owned();
    }
    match (difference_ns > 0, ratio(process_ns, kernel_ns)) {
        (true, Some(ratio)) => format!("{} as much", times(ratio)),
        (true, None) => format!("{} more", duration(difference_ns)),
        (false, _) => format!(
            "{} less, so kernel timestamps are no better here",
            duration(-difference_ns)
        ),
    }
}

fn of_anatomy(result: &PhaseResult) -> Option<String> {
    let anatomy = result.anatomy.as_ref()?;
    // One probe that waited long would dominate the mean of all.
    let half = anatomy.middle_half();
    let whole = half.watched.summary()?;
    let path: i64 = [&half.forward, &half.backward, &half.path]
        .into_iter()
        .filter_map(|part| part.summary())
        .map(|part| part.mean)
        .sum();
    let share = ratio(whole.mean - path, whole.mean)?;
    let (name, largest) = parts(&half).into_iter().max_by_key(|(_, part)| part.mean)?;
    let (_, of_all) = parts(anatomy).into_iter().find(|(other, _)| *other == name)?;
    Some(format!(
        "{}, a typical round trip of a process spends {:.0} % of its time inside the two hosts, not between the ports; \
         the largest part is \"{name}\" (typically {}, p99 {}).",
        when(result.phase),
        share * 100.0,
        duration(largest.mean),
        duration(of_all.p99),
    ))
}

fn of_socket(result: &PhaseResult, floor_ns: Option<i64>) -> Option<String> {
    let (socket, kernel) = (result.rtt(Method::Socket)?, result.rtt(Method::Kernel)?);
    let bias_ns = result.versus(Method::Socket)?.bias_ns;
    let difference = if floor_ns.is_some_and(|floor_ns| bias_ns.abs() < floor_ns) {
        "the same as kstamp's within the noise floor".to_owned()
    } else {
        let more = if bias_ns < 0 { "less" } else { "more" };
        format!("{} {more} than kstamp's", duration(bias_ns.abs()))
    };
    Some(format!(
        "{}, timestamps at sockets give {} (median), {difference}; their p99 is {}, kstamp's {}.",
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
