//! The rules that each switch must have. A switch counts them now and then, and gets them again if some are gone: somebody
//! deleted them, or a command did not reach it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::openflow::flow::{FlowCommand, FlowMod, Match};
use crate::openflow::message::Message;
use crate::openflow::server::{Command, ConnectionId};

/// Time between two counts.
const AUDIT_NS: u64 = 2_000_000_000;
/// The longest time, for a switch whose rules are gone again and again, or which refuses some.
const MAX_AUDIT_NS: u64 = 64_000_000_000;
/// Rules that are sent again in one go: fewer than the commands that may wait for a switch.
const AT_ONCE: usize = 512;
/// Token of the barrier before a count, which nothing else waits for.
const TOKEN: u64 = 0;

/// Rules of higher priority first: what blocks frames before what forwards them.
type Place = (Reverse<u16>, Match);

#[derive(Debug)]
struct Expected {
    rules: BTreeMap<Place, FlowMod>,
    /// The number of rules when the switch was asked to count them.
    asked: Option<usize>,
    due_ns: u64,
    wait_ns: u64,
    /// The rule after which the next ones are sent again.
    sending: Option<Bound<Place>>,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    switches: BTreeMap<ConnectionId, Expected>,
}

impl Ledger {
    /// A switch connected, and has these rules.
    pub(super) fn connected(&mut self, connection: ConnectionId, rules: Vec<FlowMod>, now_ns: u64) {
        let rules = rules.into_iter().map(|rule| (place(&rule), rule)).collect();
        let expected = Expected {
            rules,
            asked: None,
            due_ns: now_ns + AUDIT_NS,
            wait_ns: AUDIT_NS,
            sending: None,
        };
        self.switches.insert(connection, expected);
    }

    pub(super) fn gone(&mut self, connection: ConnectionId) {
        self.switches.remove(&connection);
    }

    /// Takes note of a command that is sent to a switch.
    pub(super) fn sent(&mut self, connection: ConnectionId, command: &Command) {
        let Some(expected) = self.switches.get_mut(&connection) else {
            return;
        };
        match command {
            Command::Send(Message::FlowMod(rule)) if rule.command == FlowCommand::Add => {
                expected.rules.insert(place(rule), rule.clone());
            }
            Command::Send(Message::FlowMod(rule)) => {
                let place = place(rule);
                if expected
                    .rules
                    .get(&place)
                    .is_some_and(|known| known.cookie == rule.cookie)
                {
                    expected.rules.remove(&place);
                }
            }
            Command::CountRules { .. } => expected.asked = Some(expected.rules.len()),
            _ => {}
        }
    }

    /// Commands that are due: counts of rules of this class, and rules to send again.
    pub(super) fn due(&mut self, cookie: u64, mask: u64, now_ns: u64) -> Vec<(ConnectionId, Command)> {
        let mut commands = Vec::new();
        for (connection, expected) in &mut self.switches {
            if let Some(after) = expected.sending.take() {
                let mut rules = expected.rules.range((after, Bound::Unbounded));
                for (place, rule) in rules.by_ref().take(AT_ONCE) {
                    commands.push((*connection, Command::Send(Message::FlowMod(rule.clone()))));
                    expected.sending = Some(Bound::Excluded(*place));
                }
                if rules.next().is_none() {
                    expected.sending = None;
                }
            } else if expected.asked.is_none() && now_ns >= expected.due_ns {
                commands.push((*connection, Command::Barrier(TOKEN)));
                commands.push((*connection, Command::CountRules { cookie, mask }));
            }
        }
        commands
    }

    /// Takes the number of rules that a switch has; returns how many are gone.
    pub(super) fn counted(&mut self, connection: ConnectionId, count: usize, now_ns: u64) -> usize {
        let Some(expected) = self.switches.get_mut(&connection) else {
            return 0;
        };
        let gone = expected.asked.take().unwrap_or(0).saturating_sub(count);
        expected.due_ns = now_ns + expected.wait_ns;
        if gone > 0 {
            expected.sending = Some(Bound::Unbounded);
            expected.wait_ns = (expected.wait_ns * 2).min(MAX_AUDIT_NS);
        } else {
            expected.wait_ns = (expected.wait_ns / 2).max(AUDIT_NS);
        }
        gone
    }
}

fn place(rule: &FlowMod) -> Place {
    (Reverse(rule.priority), rule.matching)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openflow::id::PortNumber;

    const SWITCH: ConnectionId = ConnectionId(1);

    fn rule(number: u32) -> FlowMod {
        FlowMod::add(
            u64::from(number),
            10,
            Match::any().in_port(PortNumber(number)),
            Vec::new(),
        )
    }

    /// Carries out the commands that are due. Returns the number of rules sent, and whether the switch is asked for a count.
    fn work(ledger: &mut Ledger, now_ns: u64) -> (usize, bool) {
        let commands = ledger.due(7, 7, now_ns);
        let (mut rules, mut is_asked) = (0, false);
        for (connection, command) in commands {
            ledger.sent(connection, &command);
            rules += usize::from(matches!(command, Command::Send(_)));
            is_asked |= matches!(command, Command::CountRules { .. });
        }
        (rules, is_asked)
    }

    #[test]
    fn rules_that_are_gone_are_sent_again_in_parts() {
        let mut ledger = Ledger::default();
        ledger.connected(SWITCH, vec![rule(1)], 0);
        for number in 2..=AT_ONCE as u32 + 5 {
            ledger.sent(SWITCH, &Command::Send(Message::FlowMod(rule(number))));
        }
        let delete = |number| {
            let FlowMod { cookie, matching, .. } = rule(number);
            Command::Send(Message::FlowMod(FlowMod::delete_strict(cookie, 10, matching)))
        };
        ledger.sent(SWITCH, &delete(2));
        ledger.sent(SWITCH, &delete(2));
        let all = AT_ONCE + 4;
        assert_eq!(work(&mut ledger, AUDIT_NS - 1), (0, false));
        assert_eq!(work(&mut ledger, AUDIT_NS), (0, true));
        assert_eq!(work(&mut ledger, 9 * AUDIT_NS), (0, false), "one question at a time");
        assert_eq!(ledger.counted(SWITCH, 4, AUDIT_NS), all - 4);
        assert_eq!(work(&mut ledger, AUDIT_NS), (AT_ONCE, false));
        assert_eq!(work(&mut ledger, AUDIT_NS), (4, false));
        assert_eq!(work(&mut ledger, AUDIT_NS), (0, false));
        assert_eq!(work(&mut ledger, 2 * AUDIT_NS), (0, true));
        assert_eq!(ledger.counted(SWITCH, all, 2 * AUDIT_NS), 0);
        ledger.gone(SWITCH);
        assert_eq!(work(&mut ledger, 99 * AUDIT_NS), (0, false));
    }

    #[test]
    fn a_switch_that_loses_its_rules_all_the_time_is_asked_less_often() {
        let mut ledger = Ledger::default();
        ledger.connected(SWITCH, vec![rule(1)], 0);
        let (mut sent, mut asked) = (0, 0);
        for second in 0..3_600 {
            let now_ns = second * 1_000_000_000;
            let (rules, is_asked) = work(&mut ledger, now_ns);
            sent += rules;
            if is_asked {
                asked += 1;
                ledger.counted(SWITCH, 0, now_ns);
            }
        }
        assert!((50..70).contains(&asked) && sent <= asked, "{asked} {sent}");
    }
}
