//! The noise floor of this host, from a record of `kstamp calibrate`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use crate::command::shared::values::{ConfigError, wrong};
use crate::output::metrics::NoiseFloor;

/// Bytes of the file.
const MAX_FILE: u64 = 1 << 20;

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "type")]
    kind: String,
    attach: Option<String>,
    floor_ns: Option<Distribution>,
}

#[derive(Deserialize)]
struct Distribution {
    p99: u64,
}

/// `--noise-floor`: the last floor in a file of JSON lines.
pub fn read(path: &Path) -> Result<NoiseFloor, ConfigError> {
    let mut text = Vec::new();
    if let Err(error) = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)) {
        return wrong(format!("--noise-floor {}: {error}", path.display()));
    }
    if text.len() as u64 > MAX_FILE {
        return wrong(format!(
            "--noise-floor {}: it is longer than {MAX_FILE} bytes; keep its last record of `kstamp calibrate` only",
            path.display()
        ));
    }
    let Ok(text) = String::from_utf8(text) else {
        return wrong(format!("--noise-floor {}: it is not UTF-8", path.display()));
    };
    let records = text
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Record>(line).ok());
    let mut floors = records
        .filter(|record| record.kind == "calibrate")
        .filter_map(|record| {
            Some(NoiseFloor {
                attach: record.attach?,
                ns: record.floor_ns?.p99,
            })
        });
    match floors.next() {
        Some(floor) => Ok(floor),
        None => wrong(format!(
            "--noise-floor {}: there is no noise floor in it; `kstamp calibrate --format jsonl` writes one",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use probe_core::attach::AttachMode;
    use probe_core::stats::distribution::Distribution;

    use super::*;
    use crate::command::compare::output::jsonl;

    #[test]
    fn the_last_floor_of_calibrate_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = |text: &[u8]| {
            std::fs::write(file.path(), text).unwrap();
            read(file.path()).unwrap_err().to_string()
        };
        let mut text = Vec::new();
        jsonl::floor("h1", AttachMode::XdpNative, None, &mut text).unwrap();
        for wrong in [&b""[..], b"{\"type\":\"window\"}\n", b"no JSON", &text] {
            assert!(refused(wrong).contains("there is no noise floor in it"));
        }
        assert!(refused(b"\xff").contains("UTF-8"));
        assert!(refused(&vec![b' '; MAX_FILE as usize + 1]).contains("longer than 1048576 bytes"));
        for mode in [AttachMode::Tc, AttachMode::XdpNative] {
            let mut distribution = Distribution::default();
            (1..=100).for_each(|ns| distribution.record(ns * 1_000));
            jsonl::floor("h1", mode, distribution.summary(), &mut text).unwrap();
        }
        std::fs::write(file.path(), text).unwrap();
        let floor = read(file.path()).unwrap();
        assert_eq!(floor.attach, "xdp-native");
        assert!(floor.ns.abs_diff(99_000) < 1_000, "{floor:?}");
        assert!(
            read(Path::new("/nonexistent"))
                .unwrap_err()
                .to_string()
                .contains("No such file")
        );
    }
}
