//! Reads keys from files: every user of the host can see the command line.

use std::path::{Path, PathBuf};

use probe_core::auth::Key;
use thiserror::Error;

use crate::config::guarded::{self, Guard, GuardError};

/// Shortest secret: as long as the HMAC in a packet.
const MIN_LEN: usize = 16;
/// Longest file that can be a key.
const MAX_LEN: u64 = 4096;

#[derive(Debug, Error)]
pub enum KeyFileError {
    #[error(transparent)]
    File(#[from] GuardError),
    #[error("the key in {path} has {length} bytes; give it {MIN_LEN} to {MAX_LEN}: `openssl rand -hex 32 > {path}`")]
    Length { path: PathBuf, length: usize },
}

/// Reads a key. An even number of hexadecimal digits, with or without space around them, is decoded; anything else is
/// the key itself, without one newline at its end.
pub fn read(path: &Path) -> Result<Key, KeyFileError> {
    let secret = secret(&guarded::read(path, Guard::Secret, MAX_LEN * 2 + 2)?);
    if secret.len() < MIN_LEN || secret.len() as u64 > MAX_LEN {
        return Err(KeyFileError::Length {
            path: path.to_owned(),
            length: secret.len(),
        });
    }
    Ok(Key::new(&secret))
}

fn secret(content: &[u8]) -> Vec<u8> {
    hexadecimal(content.trim_ascii()).unwrap_or_else(|| content.strip_suffix(b"\n").unwrap_or(content).to_vec())
}

fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn read(content: &[u8], mode: u32) -> Result<Key, KeyFileError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        super::read(&path)
    }

    #[test]
    fn hexadecimal_digits_are_decoded() {
        assert_eq!(secret(b" 00fFa5\n"), [0, 0xff, 0xa5]);
        assert_eq!(secret(b"00fFa\n"), b"00fFa");
        assert_eq!(secret(b"correct horse \n"), b"correct horse ");
        assert_eq!(secret(b"two\n\n"), b"two\n");
        assert_eq!(secret(&[0x80, 0xff]), [0x80, 0xff]);
    }

    #[test]
    fn only_the_owner_may_have_access() {
        let content = b"000102030405060708090a0b0c0d0e0f";
        for mode in [0o600, 0o400, 0o700] {
            assert!(read(content, mode).is_ok(), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o610, 0o602, 0o666] {
            let error = read(content, mode).unwrap_err().to_string();
            assert!(
                error.contains("chmod 600") && error.contains(&format!("{mode:o}")),
                "{error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn keys_have_16_to_4096_bytes() {
        assert!(read(&[b'k'; 15], 0o600).is_err());
        assert!(read(&[b'k'; 16], 0o600).is_ok());
        assert!(
            read(b"000102030405060708090a0b0c0d0e", 0o600).is_err(),
            "15 bytes in digits"
        );
        assert!(read(&[b'k'; 4096], 0o600).is_ok());
        assert!(read(&[b'k'; 4097], 0o600).is_err());
        let error = read(b"", 0o600).unwrap_err().to_string();
        assert!(error.contains("0 bytes"), "{error}");
        assert!(super::read(Path::new("/nonexistent/key")).is_err());
    }

    #[test]
    fn only_a_regular_file_is_read_and_others_are_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        for (path, kind) in [
            (directory.path(), "a directory"),
            (&fifo, "a FIFO"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = super::read(path).unwrap_err().to_string();
            assert!(error.contains(kind) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_file_belongs_to_root_or_to_this_user() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, [b'k'; 16]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(super::read(&link).is_ok(), "by a symlink");
        let metadata = fs::metadata(&path).unwrap();
        let owner = metadata.uid();
        assert!(guarded::check(&path, &metadata, Guard::Secret, owner).is_ok());
        assert_eq!(
            guarded::check(&path, &metadata, Guard::Secret, owner + 1).is_ok(),
            owner == 0,
            "root's serves everybody"
        );
        if owner == 0 {
            chown(&path, Some(65_534), None).unwrap();
            let error = super::read(&path).unwrap_err().to_string();
            assert!(
                error.contains("belongs to user 65534") && error.contains("chown 0"),
                "{error}"
            );
        }
    }
}
