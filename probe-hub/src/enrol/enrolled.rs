//! Who is enrolled.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A host or a reader, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// Its public NKey.
    pub key: String,
    /// Where the addresses of its ports are. A reader has none.
    #[serde(with = "prefixes")]
    pub prefixes: Vec<IpNet>,
    /// As in RFC 3339.
    pub enrolled: String,
    /// Of its certificate.
    pub expires: i16,
}

impl Enrolled {
    /// It may ask, and has no ports.
    pub fn is_reader(&self) -> bool {
        self.prefixes.is_empty()
    }
}

/// Prefixes as texts.
mod prefixes {
    use ipnet::IpNet;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(prefixes: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(prefixes.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| text.parse().map_err(de::Error::custom))
            .collect()
    }
}
