//! When to ask a peer for its half of which probes: in batches, one question at a time, again if there is no answer, and
//! rarely if there never is one.

use std::collections::VecDeque;

use crate::hops::wire::MAX_ASKED;

/// A probe is settled this long after its outcome at the earliest: until then, its stamps may still come.
pub const SETTLE_NS: u64 = 250_000_000;

/// A question waits this long for more probes.
const GATHER_NS: u64 = 500_000_000;

/// Nobody keeps stamps for longer, so a probe that was not asked for by then is given up.
const MAX_WAIT_NS: u64 = 7_000_000_000;

/// An answer comes from a process, and so later than a reply. A lost question holds up the others for as long.
const MIN_ANSWER_NS: u64 = 500_000_000;

/// Between two questions to one peer.
const APART_NS: u64 = 20_000_000;

/// Probes that wait for a question, in each of two queues.
const MAX_WAITING: usize = 512;

/// As many probes have room in an answer of three devices, each passed twice.
const FIRST_BATCH: usize = 25;

/// A peer that leaves so many questions in a row without an answer is asked rarely, unless it has answered shortly before: on a
/// path with losses, several questions in a row are lost.
const MAX_UNANSWERED: u32 = 3;
const SHORTLY_NS: u64 = 10_000_000_000;
const SILENT_RETRY_NS: u64 = 60_000_000_000;

#[derive(Debug)]
pub(super) struct Asking {
    /// Lost probes and outliers: these are asked for first.
    urgent: VecDeque<Waiting>,
    ordinary: VecDeque<Waiting>,
    open: Option<Open>,
    /// The question that is asked again.
    again: Option<Vec<Waiting>>,
    /// Questions in a row.
    unanswered: u32,
    answered_ns: Option<u64>,
    /// No question before this.
    next_ns: u64,
    /// Probes of one question.
    batch: usize,
    /// How long an answer may take.
    answer_ns: u64,
    max_answer_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    seq: u32,
    since_ns: u64,
}

#[derive(Debug)]
struct Open {
    nonce: u64,
    probes: Vec<Waiting>,
    asked_ns: u64,
}

impl Asking {
    /// `timeout_ns` is that of probes.
    pub fn new(timeout_ns: u64) -> Self {
        let max_answer_ns = timeout_ns.max(MIN_ANSWER_NS);
        Self {
            urgent: VecDeque::new(),
            ordinary: VecDeque::new(),
            open: None,
            again: None,
            unanswered: 0,
            answered_ns: None,
            next_ns: 0,
            batch: FIRST_BATCH,
            answer_ns: max_answer_ns,
            max_answer_ns,
        }
    }

    /// The timeout of probes changes.
    pub fn set_timeout(&mut self, timeout_ns: u64) {
        self.max_answer_ns = timeout_ns.max(MIN_ANSWER_NS);
        self.answer_ns = self.answer_ns.min(self.max_answer_ns);
    }

    /// A probe was answered after this time.
    pub fn note_round_trip(&mut self, elapsed_ns: u64) {
        let answer_ns = elapsed_ns.saturating_mul(4).saturating_add(MIN_ANSWER_NS);
        self.answer_ns = answer_ns.min(self.max_answer_ns);
    }

    /// The outcome of a probe is known. Returns one that has to be given up, because too many wait.
    pub fn add(&mut self, seq: u32, is_urgent: bool, now_ns: u64) -> Option<u32> {
        let queue = if is_urgent {
            &mut self.urgent
        } else {
            &mut self.ordinary
        };
        queue.push_back(Waiting { seq, since_ns: now_ns });
        let oldest = if queue.len() > MAX_WAITING {
            queue.pop_front()
        } else {
            None
        };
        oldest.map(|oldest| oldest.seq)
    }

    /// Whether to ask now.
    pub fn is_due(&self, now_ns: u64) -> bool {
        if self.open.is_some() || now_ns < self.next_ns {
            return false;
        }
        let is_older = |queue: &VecDeque<Waiting>, place: usize, age_ns| {
            let waiting = queue.get(place);
            waiting.is_some_and(|waiting| waiting.since_ns.saturating_add(age_ns) <= now_ns)
        };
        let queues = [&self.urgent, &self.ordinary];
        self.again.is_some()
            || queues.iter().any(|queue| is_older(queue, 0, GATHER_NS))
            || queues.iter().any(|queue| is_older(queue, self.batch - 1, SETTLE_NS))
    }

    /// Asks with `nonce`, and returns for which probes.
    pub fn ask(&mut self, nonce: u64, now_ns: u64) -> Vec<u32> {
        let probes = self.again.take().unwrap_or_else(|| {
            let mut probes = Vec::with_capacity(self.batch);
            for queue in [&mut self.urgent, &mut self.ordinary] {
                let is_ripe = |waiting: &mut Waiting| waiting.since_ns.saturating_add(SETTLE_NS) <= now_ns;
                while probes.len() < self.batch
                    && let Some(waiting) = queue.pop_front_if(is_ripe)
                {
                    probes.push(waiting);
                }
            }
            probes
        });
        self.next_ns = now_ns.saturating_add(APART_NS);
        let asked = probes.iter().map(|waiting| waiting.seq).collect();
        self.open = Some(Open {
            nonce,
            probes,
            asked_ns: now_ns,
        });
        asked
    }

    /// The probes of the open question, if it has this nonce.
    pub fn is_answered_by(&self, nonce: u64) -> Option<impl Iterator<Item = u32>> {
        let open = self.open.as_ref().filter(|open| open.nonce == nonce)?;
        Some(open.probes.iter().map(|waiting| waiting.seq))
    }

    /// The open question was answered as far as its first `count` probes. The others are asked for again, or returned if there
    /// is no progress.
    pub fn answered(&mut self, count: usize, now_ns: u64) -> Vec<u32> {
        let Some(Open { mut probes, .. }) = self.open.take() else {
            return Vec::new();
        };
        self.unanswered = 0;
        self.answered_ns = Some(now_ns);
        let rest = probes.split_off(count.min(probes.len()));
        if probes.is_empty() {
            return rest.iter().map(|waiting| waiting.seq).collect();
        }
        self.batch = if rest.is_empty() { self.batch + 1 } else { count }.min(MAX_ASKED);
        rest.into_iter()
            .rev()
            .for_each(|waiting| self.urgent.push_front(waiting));
        Vec::new()
    }

    /// The open question, if its answer is overdue: its nonce, and the probes that are not asked for again.
    pub fn take_overdue(&mut self, now_ns: u64) -> Option<(u64, Vec<u32>)> {
        let is_overdue = |open: &mut Open| open.asked_ns.saturating_add(self.answer_ns) <= now_ns;
        let Open { nonce, probes, .. } = self.open.take_if(is_overdue)?;
        self.unanswered += 1;
        let (again, given_up): (Vec<_>, Vec<_>) = if self.is_silent(now_ns) {
            self.next_ns = now_ns.saturating_add(SILENT_RETRY_NS);
            (Vec::new(), probes)
        } else {
            let is_in_time = |waiting: &Waiting| now_ns < waiting.since_ns.saturating_add(MAX_WAIT_NS);
            probes.into_iter().partition(is_in_time)
        };
        self.again = (!again.is_empty()).then_some(again);
        Some((nonce, given_up.iter().map(|waiting| waiting.seq).collect()))
    }

    /// A probe that has waited for too long, or whose peer is silent; call again until there is none.
    pub fn give_up(&mut self, now_ns: u64) -> Option<u32> {
        let is_hopeless = self.is_silent(now_ns) && now_ns < self.next_ns;
        let longest_ns = if is_hopeless { SETTLE_NS } else { MAX_WAIT_NS };
        let is_over = |waiting: &mut Waiting| waiting.since_ns.saturating_add(longest_ns) <= now_ns;
        let urgent = self.urgent.pop_front_if(is_over);
        let waiting = urgent.or_else(|| self.ordinary.pop_front_if(is_over));
        waiting.map(|waiting| waiting.seq)
    }

    /// The peer has left several questions in a row without an answer.
    fn is_silent(&self, now_ns: u64) -> bool {
        let is_recent = |answered_ns: u64| now_ns.saturating_sub(answered_ns) < SHORTLY_NS;
        self.unanswered >= MAX_UNANSWERED && !self.answered_ns.is_some_and(is_recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;

    fn asking() -> Asking {
        Asking::new(S)
    }

    /// Adds probes of one time.
    fn add(asking: &mut Asking, probes: std::ops::Range<u32>, now_ns: u64) {
        probes.for_each(|seq| assert_eq!(asking.add(seq, false, now_ns), None));
    }

    #[test]
    fn few_probes_are_gathered_and_a_whole_batch_is_asked_for_once_it_may_be_settled() {
        for (probes, due_ns) in [(1, GATHER_NS), (24, GATHER_NS), (25, SETTLE_NS), (60, SETTLE_NS)] {
            let mut asking = asking();
            add(&mut asking, 0..probes, 0);
            assert!(!asking.is_due(due_ns - 1) && asking.is_due(due_ns), "{probes} probes");
            let asked = asking.ask(1, due_ns);
            assert_eq!(asked, (0..probes.min(25)).collect::<Vec<_>>());
            assert!(!asking.is_due(due_ns + S - 1), "one question at a time");
        }
    }

    #[test]
    fn lost_probes_and_outliers_go_first() {
        let mut asking = asking();
        add(&mut asking, 0..40, 0);
        assert_eq!(asking.add(99, true, 1), None);
        assert_eq!(asking.ask(1, S)[..3], [99, 0, 1]);
    }

    #[test]
    fn another_timeout_holds_for_the_next_questions() {
        for (timeout_ns, answer_ns) in [(3 * S, 3 * S), (S / 10, MIN_ANSWER_NS)] {
            let mut asking = asking();
            asking.set_timeout(timeout_ns);
            asking.note_round_trip(S);
            add(&mut asking, 0..1, 0);
            asking.ask(1, S);
            assert!(asking.take_overdue(S + answer_ns - 1).is_none(), "{timeout_ns}");
            assert!(asking.take_overdue(S + answer_ns).is_some(), "{timeout_ns}");
        }
    }

    #[test]
    fn a_probe_that_may_not_be_settled_yet_is_not_asked_for() {
        let mut asking = asking();
        add(&mut asking, 0..1, 0);
        add(&mut asking, 1..2, GATHER_NS);
        assert_eq!(asking.ask(1, GATHER_NS), [0]);
    }

    #[test]
    fn what_did_not_fit_is_asked_for_next_in_smaller_batches() {
        let mut asking = asking();
        add(&mut asking, 0..60, 0);
        asking.ask(1, S);
        assert_eq!(asking.is_answered_by(2).map(Iterator::count), None);
        assert_eq!(asking.is_answered_by(1).map(Iterator::count), Some(25));
        assert_eq!(asking.answered(10, S), [0; 0]);
        assert!(!asking.is_due(S + APART_NS - 1) && asking.is_due(S + APART_NS));
        assert_eq!(asking.ask(2, S + APART_NS), (10..20).collect::<Vec<_>>());
        assert_eq!(asking.answered(10, S), [0; 0]);
        assert_eq!(asking.ask(3, 2 * S).len(), 11, "room for one more is tried");
        assert_eq!(
            asking.answered(0, 2 * S).len(),
            11,
            "an answer about nothing would come again and again"
        );
    }

    #[test]
    fn a_lost_question_is_asked_again_until_the_stamps_are_gone() {
        let mut asking = asking();
        add(&mut asking, 0..1, 0);
        asking.ask(1, S);
        asking.answered(1, S);
        add(&mut asking, 1..2, S);
        let mut now_ns = 2 * S;
        for nonce in 2..8 {
            assert!(asking.is_due(now_ns));
            assert_eq!(asking.ask(nonce, now_ns), [1]);
            assert_eq!(asking.take_overdue(now_ns + S - 1), None);
            now_ns += S;
            let given_up = if now_ns < S + MAX_WAIT_NS { vec![] } else { vec![1] };
            assert_eq!(asking.take_overdue(now_ns), Some((nonce, given_up)));
            assert!(asking.is_answered_by(nonce).is_none());
        }
        assert!(now_ns == S + MAX_WAIT_NS && !asking.is_due(now_ns));
    }

    #[test]
    fn a_question_to_a_near_peer_is_overdue_soon() {
        for (elapsed_ns, overdue_ns) in [(None, S), (Some(MS), MIN_ANSWER_NS + 4 * MS), (Some(S), S)] {
            let mut asking = asking();
            elapsed_ns
                .into_iter()
                .for_each(|elapsed_ns| asking.note_round_trip(elapsed_ns));
            add(&mut asking, 0..1, 0);
            asking.ask(1, S);
            assert_eq!(asking.take_overdue(S + overdue_ns - 1), None);
            assert!(asking.take_overdue(S + overdue_ns).is_some() && asking.is_due(S + overdue_ns));
        }
    }

    #[test]
    fn a_peer_that_never_answers_is_asked_rarely_and_keeps_no_probe_waiting() {
        let mut asking = asking();
        let (mut asked_at, mut given_up, mut longest) = (Vec::new(), 0, 0);
        for tenth in 0..1_400u32 {
            let now_ns = u64::from(tenth) * 100 * MS;
            add(&mut asking, tenth..tenth + 1, now_ns);
            given_up += asking.take_overdue(now_ns).map_or(0, |(_, probes)| probes.len());
            given_up += std::iter::from_fn(|| asking.give_up(now_ns)).count();
            if asking.is_due(now_ns) {
                asking.ask(1, now_ns);
                asked_at.push(now_ns / S);
            }
            if tenth > 100 {
                longest = longest.max(tenth as usize + 1 - given_up);
            }
        }
        assert_eq!(asked_at, [0, 1, 2, 63, 124]);
        assert!(longest <= 30, "{longest} probes wait");
    }

    #[test]
    fn a_peer_that_has_answered_is_asked_on_while_questions_are_lost() {
        let mut asking = asking();
        add(&mut asking, 0..1, 0);
        asking.ask(1, S);
        asking.answered(1, S);
        let mut asked_at = Vec::new();
        for now_s in 2..90 {
            let now_ns = now_s * S;
            add(&mut asking, now_s as u32..now_s as u32 + 1, now_ns - S);
            asking.take_overdue(now_ns);
            if asking.is_due(now_ns) {
                asking.ask(1, now_ns);
                asked_at.push(now_s);
            }
        }
        assert_eq!(asked_at, [2, 3, 4, 5, 6, 7, 8, 9, 10, 71]);
    }

    #[test]
    fn waiting_probes_are_bounded_in_number_and_time() {
        let mut asking = asking();
        add(&mut asking, 0..MAX_WAITING as u32, 0);
        assert_eq!(asking.add(1_000, false, 0), Some(0));
        assert_eq!(asking.add(1_001, true, 0), None);
        assert_eq!(asking.give_up(MAX_WAIT_NS - 1), None);
        let given_up: Vec<u32> = std::iter::from_fn(|| asking.give_up(MAX_WAIT_NS)).collect();
        assert_eq!((given_up.len(), given_up[0]), (MAX_WAITING + 1, 1_001));
    }
}
