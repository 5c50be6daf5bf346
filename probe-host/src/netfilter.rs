//! Rules of netfilter that name a port, as far as its tools list them.

use std::process::{Command, Stdio};

/// Each lists all rules, if it is installed and permitted.
const LISTS: [&[&str]; 3] = [&["nft", "list", "ruleset"], &["iptables-save"], &["ip6tables-save"]];

/// The rules for packets to one of `ports`.
pub fn rules_for(ports: &[u16]) -> Vec<String> {
    let listed = LISTS.iter().filter_map(|words| {
        let mut command = Command::new(words[0]);
        let output = command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        Some(String::from_utf8_lossy(&output.ok()?.stdout).into_owned())
    });
    let mut found = Vec::new();
    for list in listed {
        let rules = list.lines().map(str::trim).filter(|rule| names(rule, ports));
        found.extend(rules.map(str::to_owned));
    }
    found
}

/// Whether a rule has a destination port, a range or a set with one of `ports`.
fn names(rule: &str, ports: &[u16]) -> bool {
    let words: Vec<&str> = rule.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let starts = words
        .iter()
        .enumerate()
        .filter(|(_, word)| word.trim_start_matches('-').starts_with("dport"));
    starts.into_iter().any(|(place, _)| {
        let values = words[place + 1..]
            .iter()
            .skip_while(|word| ["{", "!=", "=="].contains(word));
        values
            .map_while(|word| range(word))
            .any(|(first, last)| ports.iter().any(|port| (first..=last).contains(port)))
    })
}

/// `1910`, `1900-1920` or `1900:1920`.
fn range(word: &str) -> Option<(u16, u16)> {
    match word.split_once(['-', ':']) {
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
        None => word.parse().ok().map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_port_range_and_set() {
        let table = [
            ("udp dport 1910 drop", true),
            ("udp dport { 53, 862, 1910 } counter packets 0 bytes 0 drop", true),
            ("udp dport 1900-1920 accept", true),
            ("-A INPUT -p udp -m udp --dport 1910 -j DROP", true),
            ("-A OUTPUT -p udp -m multiport --dports 53,1900:1920 -j REJECT", true),
            ("udp dport 19100 drop", false),
            ("udp sport 1910 drop", false),
            ("tcp dport { 80, 443 } counter packets 1910 bytes 5 accept", false),
            ("udp dport @blocked drop", false),
            (
                "chain input { type filter hook input priority 1910; policy accept;",
                false,
            ),
        ];
        for (rule, want) in table {
            assert_eq!(names(rule, &[862, 1910]), want, "{rule}");
        }
    }
}
