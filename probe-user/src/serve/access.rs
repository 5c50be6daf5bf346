//! Basic authentication with bcrypt, as Prometheus' exporter toolkit does it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use probe_core::lru::Lru;
use sha2::{Digest as _, Sha256};

/// A hash of a random password: a name that does not exist takes as long to refuse as a wrong password.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuVqL0wPkLSjKcR7mEKvhhwqPyjGmBsxK";

/// The pause after a check of a password, in times of its length. Addresses that have guessed wrong share one pause, and all
/// others another. Both together take a fifth of one processor, and a guesser does not keep a new client away.
const PAUSE: u32 = 9;

/// Addresses that have guessed wrong: more than can connect at a time. The oldest is forgotten.
const MAX_GUESSERS: usize = 1_024;

/// Right passwords that are recognised without bcrypt.
const MAX_KNOWN: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    Denied,
    /// Another password was verified just before.
    TooMany,
}

/// Who may read.
pub(super) struct Access {
    /// Names and bcrypt hashes; everybody may read if there are none.
    users: BTreeMap<String, String>,
    /// Digests of names and passwords that were right, keyed by `secret`.
    known: Vec<[u8; 32]>,
    secret: [u64; 2],
    guessers: Lru<IpAddr, ()>,
    /// No password of others, and of guessers, is verified before these times.
    next: [Option<Instant>; 2],
}

impl Access {
    pub(super) fn new(users: BTreeMap<String, String>) -> Self {
        Self {
            users,
            known: Vec::new(),
            secret: [0, 1].map(|word: u64| RandomState::new().hash_one(word)),
            guessers: Lru::new(MAX_GUESSERS),
            next: [None; 2],
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// `credentials`: the `Authorization` header of a client of the source `from`.
    pub(super) fn authorise(&mut self, credentials: Option<&str>, from: IpAddr, now: Instant) -> Verdict {
        if self.is_open() {
            return Verdict::Allowed;
        }
        let Some((name, password)) = credentials.and_then(basic) else {
            return Verdict::Denied;
        };
        let digest = self.digest(&name, &password);
        if self.known.contains(&digest) {
            return Verdict::Allowed;
        }
        let turn = usize::from(self.guessers.peek(&from).is_some());
        if self.next[turn].is_some_and(|next| now < next) {
            return Verdict::TooMany;
        }
        let hash = self.users.get(&name);
        let begin = Instant::now();
        let is_right = bcrypt::verify(&password, hash.map_or(NOBODY, String::as_str)).unwrap_or(false);
        let next = Some(now + begin.elapsed() * (PAUSE + 1));
        self.next[turn] = next;
        if !is_right || hash.is_none() {
            self.guessers.insert(from, ());
            self.next[1] = self.next[1].max(next);
            return Verdict::Denied;
        }
        self.guessers.remove(&from);
        if self.known.len() < MAX_KNOWN {
            self.known.push(digest);
        }
        Verdict::Allowed
    }

    fn digest(&self, name: &str, password: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        self.secret.iter().for_each(|word| digest.update(word.to_le_bytes()));
        digest.update(name.len().to_le_bytes());
        digest.update(name);
        digest.update(password);
        digest.finalize().into()
    }
}

/// Name and password (RFC 7617).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn header(text: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(text))
    }

    #[test]
    fn only_a_right_name_and_password_is_allowed() {
        let hash = bcrypt::hash("a:b", 4).unwrap();
        let mut access = Access::new(BTreeMap::from([("ann".to_owned(), hash)]));
        let mut now = Instant::now();
        let table = [
            (None, Verdict::Denied),
            (Some("Basic !!".to_owned()), Verdict::Denied),
            (Some("Bearer x".to_owned()), Verdict::Denied),
            (Some(header("ann")), Verdict::Denied),
            (Some(header("ann:a")), Verdict::Denied),
            (Some(header("bob:a:b")), Verdict::Denied),
            (Some(header("ann:a:b")), Verdict::Allowed),
            (Some(header("ann:a:b").replace("Basic", "basic")), Verdict::Allowed),
        ];
        for (credentials, want) in table {
            // Longer than any pause, also on a busy machine.
            now += Duration::from_secs(3_600);
            assert_eq!(
                access.authorise(credentials.as_deref(), HERE, now),
                want,
                "{credentials:?}"
            );
        }
        assert_eq!(
            Access::new(BTreeMap::new()).authorise(None, HERE, now),
            Verdict::Allowed
        );
        // The hash for unknown names can be verified.
        assert!(!bcrypt::verify("x", NOBODY).unwrap());
    }

    #[test]
    fn guesses_take_turns_and_a_known_password_does_not_wait() {
        let hash = bcrypt::hash("right", 4).unwrap();
        let mut access = Access::new(BTreeMap::from([("ann".to_owned(), hash)]));
        let now = Instant::now();
        let right = header("ann:right");
        assert_eq!(access.authorise(Some(&right), HERE, now), Verdict::Allowed);
        let later = now + Duration::from_secs(10);
        assert_eq!(access.authorise(Some(&header("ann:1")), HERE, later), Verdict::Denied);
        assert_eq!(access.authorise(Some(&header("ann:2")), HERE, later), Verdict::TooMany);
        assert_eq!(access.authorise(Some(&right), HERE, later), Verdict::Allowed);
        let after = later + Duration::from_secs(10);
        assert_eq!(access.authorise(Some(&header("ann:2")), HERE, after), Verdict::Denied);
    }

    #[test]
    fn a_guesser_does_not_keep_a_new_client_away() {
        let hash = bcrypt::hash("right", 4).unwrap();
        let mut access = Access::new(BTreeMap::from([("ann".to_owned(), hash)]));
        let (right, wrong) = (header("ann:right"), header("ann:wrong"));
        let [guesser, new]: [IpAddr; 2] = ["fd00::", "fd00:1::"].map(|text| text.parse().unwrap());
        let now = Instant::now();
        assert_eq!(access.authorise(Some(&wrong), guesser, now), Verdict::Denied);
        let later = now + Duration::from_secs(10);
        assert_eq!(access.authorise(Some(&wrong), guesser, later), Verdict::Denied);
        assert_eq!(access.authorise(Some(&wrong), guesser, later), Verdict::TooMany);
        assert_eq!(access.authorise(Some(&right), new, later), Verdict::Allowed);
        // Addresses that have guessed are bounded.
        for number in 0..2 * MAX_GUESSERS as u32 {
            let (from, now) = (
                IpAddr::V4(number.into()),
                later + Duration::from_secs(10 * u64::from(number + 1)),
            );
            access.authorise(None, from, now);
            access.guessers.insert(from, ());
        }
        assert_eq!(access.guessers.values().count(), MAX_GUESSERS);
    }
}
