//! Alerts as events of the output: raised once, resolved once.

use std::collections::BTreeMap;

use probe_hub::hub::alerts::Alert;

/// The texts of the alerts that are raised, by identifier. As many as the hub shows.
#[derive(Debug, Default)]
pub struct AlertEvents(BTreeMap<String, String>);

impl AlertEvents {
    /// What has changed since the last call: the kind of the event, and its text.
    pub fn changes<'a>(&mut self, raised: impl Iterator<Item = &'a Alert>) -> Vec<(&'static str, String)> {
        let now: BTreeMap<_, _> = raised.map(|alert| (alert.id.clone(), alert.text.clone())).collect();
        let is_new = |(id, _): &(&String, &String)| !self.0.contains_key(*id);
        let is_over = |(id, _): &(&String, &String)| !now.contains_key(*id);
        let over = self
            .0
            .iter()
            .filter(is_over)
            .map(|(_, text)| ("resolved", format!("resolved: {text}")));
        let new = now.iter().filter(is_new).map(|(_, text)| ("raised", text.clone()));
        let changes = over.chain(new).collect();
        self.0 = now;
        changes
    }
}

#[cfg(test)]
mod tests {
    use probe_hub::hub::alerts::{Kind, Subject};

    use super::*;

    #[test]
    fn each_alert_is_raised_and_resolved_once() {
        let alert = |host: &str| {
            let subject = Subject::Host {
                host: host.parse().unwrap(),
            };
            Alert::new(Kind::HostDown, subject, format!("{host} is down"), 1)
        };
        let (one, two) = (alert("h1"), alert("h2"));
        let mut events = AlertEvents::default();
        let raised = |text: &str| ("raised", text.to_owned());
        assert_eq!(events.changes([&one].into_iter()), [raised("h1 is down")]);
        assert_eq!(events.changes([&one].into_iter()), []);
        let resolved = ("resolved", "resolved: h1 is down".to_owned());
        assert_eq!(events.changes([&two].into_iter()), [resolved, raised("h2 is down")]);
    }
}
