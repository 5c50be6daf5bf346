//! The file with which a host, a hub or a reader connects: written at enrolment, in TOML.

use nkeys::KeyPair;
use serde::{Deserialize, Serialize};

use crate::name::HostName;

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("it is no file of `kstamp hub enroll`: {0}")]
    Form(String),
    #[error("{0} is no NKey: {1}")]
    Key(&'static str, nkeys::error::Error),
    #[error("it names no server")]
    NoServer,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The name under which it is enrolled.
    pub name: HostName,
    /// NATS servers, as `tls://HOST:PORT`.
    pub servers: Vec<String>,
    /// NKey of this user.
    pub seed: String,
    /// Public NKey of the hub, which signs assignments.
    pub hub: String,
    /// Authority of the servers' certificates (PEM).
    pub ca: String,
    /// This user's certificate and its key (PEM).
    pub certificate: String,
    pub key: String,
}

impl Credentials {
    pub fn read(text: &str) -> Result<Self, CredentialsError> {
        let credentials: Self =
            toml_edit::de::from_str(text).map_err(|error| CredentialsError::Form(error.message().to_owned()))?;
        KeyPair::from_seed(&credentials.seed).map_err(|error| CredentialsError::Key("its seed", error))?;
        KeyPair::from_public_key(&credentials.hub).map_err(|error| CredentialsError::Key("its hub", error))?;
        if credentials.servers.is_empty() {
            return Err(CredentialsError::NoServer);
        }
        Ok(credentials)
    }

    pub fn write(&self) -> String {
        toml_edit::ser::to_string_pretty(self).unwrap_or_default()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            name: "h1".parse().unwrap(),
            servers: vec!["tls://10.0.0.1:4222".to_owned()],
            seed: KeyPair::new_user().seed().unwrap(),
            hub: KeyPair::new_account().public_key(),
            ca: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned(),
            certificate: String::new(),
            key: String::new(),
        }
    }

    #[test]
    fn written_credentials_are_read() {
        let credentials = credentials();
        assert_eq!(Credentials::read(&credentials.write()).unwrap(), credentials);
        assert!(!format!("{credentials:?}").contains(&credentials.seed));
    }

    #[test]
    fn wrong_files_are_refused() {
        let right = credentials();
        let wrong = [
            Credentials {
                seed: "S".to_owned(),
                ..right.clone()
            },
            Credentials {
                hub: right.seed.clone(),
                ..right.clone()
            },
            Credentials {
                servers: Vec::new(),
                ..right.clone()
            },
        ];
        for credentials in wrong {
            assert!(Credentials::read(&credentials.write()).is_err(), "{credentials:?}");
        }
        assert!(Credentials::read("name = \"h1\"").is_err());
        assert!(Credentials::read("").is_err());
    }
}
