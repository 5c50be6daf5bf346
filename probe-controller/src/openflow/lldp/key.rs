//! The signing key of one run.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Length of the MAC that a frame carries, in bytes: HMAC-SHA-256 truncated (RFC 2104 §5).
pub(super) const MAC_LEN: usize = 16;

/// Signs the frames of one run, and names the run.
#[derive(Clone)]
pub struct Key {
    mac: Hmac<Sha256>,
    run: u64,
}

impl Key {
    /// Makes a key from the kernel's random numbers.
    pub fn random() -> io::Result<Self> {
        let mut secret = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        Ok(Self::from_secret(&secret))
    }

    pub fn from_secret(secret: &[u8; 32]) -> Self {
        // A block of SHA-256 is longer than the secret, so nothing is hashed away and the length is always accepted.
        let mut block = [0; 64];
        block[..32].copy_from_slice(secret);
        let mac = Hmac::<Sha256>::new((&block).into());
        let mut named = mac.clone();
        named.update(b"kstamp run");
        let name = named.finalize().into_bytes();
        let run = name.iter().take(8).fold(0, |run, &byte| run << 8 | u64::from(byte));
        Self { mac, run }
    }

    /// Public name of the run, which does not reveal the secret.
    pub(super) fn run(&self) -> u64 {
        self.run
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = self.mac.clone();
        mac.update(bytes);
        let full = mac.finalize().into_bytes();
        std::array::from_fn(|i| full[i])
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, bytes: &[u8], mac: &[u8; MAC_LEN]) -> bool {
        let mut own = self.mac.clone();
        own.update(bytes);
        own.verify_truncated_left(mac).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(run {:016x})", self.run)
    }
}
