use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};

use tempfile::TempDir;

use super::*;

fn state() -> (TempDir, StateDirectory) {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(&directory.path().join("a/hub")).unwrap();
    (directory, state)
}

fn servers() -> Servers {
    Servers {
        urls: vec!["tls://hub:4222".to_owned()],
        ca: None,
    }
}

fn name(name: &str) -> HostName {
    name.parse().unwrap()
}

fn prefixes() -> Vec<IpNet> {
    vec!["10.1.0.0/16".parse().unwrap(), "fd77::/64".parse().unwrap()]
}

#[test]
fn credentials_are_complete_and_only_public_parts_are_kept() {
    let (_directory, state) = state();
    let credentials = state.enroll(&name("h1"), &prefixes(), servers(), false).unwrap();
    assert_eq!(Credentials::read(&credentials.write()).unwrap(), credentials);
    assert_eq!(credentials.servers, ["tls://hub:4222"]);
    let enrolled = state.enrolled().unwrap();
    let key = KeyPair::from_seed(&credentials.seed).unwrap();
    assert_eq!(enrolled[&name("h1")].key, key.public_key());
    assert_eq!(enrolled[&name("h1")].prefixes, prefixes());
    let mut files = vec![state.path().to_owned()];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700, "{path:?}");
            files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{path:?}");
            let content = fs::read_to_string(&path).unwrap();
            assert!(!content.contains(&credentials.seed), "{path:?}");
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen} files");
}

#[test]
fn a_name_is_enrolled_once_unless_it_is_replaced() {
    let (_directory, state) = state();
    let enroll = |replaced| state.enroll(&name("h1"), &prefixes(), servers(), replaced);
    let first = enroll(false).unwrap();
    let accounts = || fs::read_to_string(state.path().join(ACCOUNTS)).unwrap();
    let key = |credentials: &Credentials| KeyPair::from_seed(&credentials.seed).unwrap().public_key();
    assert!(matches!(enroll(false), Err(EnrolError::Enrolled(_))));
    assert!(accounts().contains(&key(&first)));
    let version = state.version();
    let second = enroll(true).unwrap();
    assert_ne!(state.version(), version);
    assert!(!accounts().contains(&key(&first)) && accounts().contains(&key(&second)));
    state.revoke(&name("h1")).unwrap();
    assert!(!accounts().contains(&key(&second)));
    assert!(matches!(state.revoke(&name("h1")), Err(EnrolError::Unknown { .. })));
    assert!(state.enrolled().unwrap().is_empty());
}

#[test]
fn a_revocation_that_failed_half_way_can_be_repeated() {
    let (_directory, state) = state();
    let credentials = state.enroll(&name("h1"), &prefixes(), servers(), false).unwrap();
    let key = KeyPair::from_seed(&credentials.seed).unwrap().public_key();
    let accounts = state.path().join(ACCOUNTS);
    let before = fs::read_to_string(&accounts).unwrap();
    // A file cannot be put in the place of a directory.
    fs::remove_file(&accounts).unwrap();
    fs::create_dir(&accounts).unwrap();
    assert!(state.revoke(&name("h1")).is_err());
    fs::remove_dir(&accounts).unwrap();
    fs::write(&accounts, before).unwrap();
    assert!(matches!(state.revoke(&name("h")), Err(EnrolError::Unknown { .. })));
    state.revoke(&name("h1")).unwrap();
    assert!(!fs::read_to_string(&accounts).unwrap().contains(&key));
    assert!(matches!(state.revoke(&name("h1")), Err(EnrolError::Unknown { .. })));
}

#[test]
fn a_directory_keeps_its_keys_and_its_addresses() {
    let (directory, state) = state();
    let keys = |state: &StateDirectory| {
        let keys = state.hub(&name("hub"), servers()).unwrap();
        (keys.signing.public_key(), keys.credentials.seed, keys.credentials.ca)
    };
    let own = || Address::parse("own", 4222).unwrap();
    let given = Address::parse("hub.example.org", 4222).unwrap();
    assert_eq!(state.addresses(&[], own()).unwrap(), [own()]);
    let version = state.version();
    let addresses = [given.clone()];
    assert_eq!(state.addresses(&addresses, own()).unwrap(), addresses);
    assert_ne!(state.version(), version);
    let again = StateDirectory::open(&directory.path().join("a/hub")).unwrap();
    assert_eq!(keys(&again), keys(&state));
    assert_eq!(again.addresses(&[], own()).unwrap(), [given]);
    // What agents check signatures with, and the user of the connection.
    let credentials = state.enroll(&name("h1"), &prefixes(), servers(), false).unwrap();
    assert_eq!(credentials.hub, keys(&state).0);
    assert_ne!(
        credentials.hub,
        KeyPair::from_seed(&keys(&state).1).unwrap().public_key()
    );
}

#[test]
fn one_hub_has_the_directory_at_a_time() {
    let (_directory, state) = state();
    let lock = state.lock().unwrap();
    let error = state.lock().unwrap_err().to_string();
    assert!(error.contains("--state") && !error.contains('\n'), "{error}");
    // Enrolment goes on.
    state.enroll(&name("h1"), &prefixes(), servers(), false).unwrap();
    drop(lock);
    state.lock().unwrap();
}

#[test]
fn a_directory_that_others_have_access_to_is_refused() {
    let (_directory, state) = state();
    fs::set_permissions(state.path(), Permissions::from_mode(0o750)).unwrap();
    let error = StateDirectory::open(state.path()).unwrap_err().to_string();
    assert!(error.contains("chmod 700") && error.contains("0750"), "{error}");
    fs::set_permissions(state.path(), Permissions::from_mode(0o700)).unwrap();
    if files::own_user() == 0 {
        chown(state.path(), Some(65_534), None).unwrap();
        let error = StateDirectory::open(state.path()).unwrap_err().to_string();
        assert!(error.contains("user 65534") && error.contains("--state"), "{error}");
    }
}

#[test]
fn a_broken_file_is_named() {
    let (_directory, state) = state();
    state.enroll(&name("h1"), &prefixes(), servers(), false).unwrap();
    fs::write(state.path().join("hosts/h1.toml"), "key = 1").unwrap();
    fs::write(state.path().join("hosts/h1.toml.part"), "left by a crash").unwrap();
    let error = state.enrolled().unwrap_err().to_string();
    assert!(error.contains("hosts/h1.toml") && !error.contains('\n'), "{error}");
}

#[test]
fn readers_may_only_ask() {
    let (_directory, state) = state();
    state.enroll(&name("r"), &[], servers(), false).unwrap();
    let enrolled = state.enrolled().unwrap();
    assert!(enrolled[&name("r")].is_reader());
    let text = accounts::text("U", &enrolled);
    assert!(
        text.contains("_INBOX_r.>") && !text.contains("kstamp.window.r.*"),
        "{text}"
    );
}

#[test]
fn an_import_is_of_the_same_fleet_and_follows_later_ones() {
    let (_directory, state) = state();
    let path = state.path().to_owned();
    let copy = path.with_file_name("copy");
    state
        .addresses(&[Address::parse("hub", 4222).unwrap()], Address::parse("x", 1).unwrap())
        .unwrap();
    state.enroll(&name("h1"), &prefixes(), servers(), false).unwrap();
    state.enroll(&name("h2"), &prefixes(), servers(), false).unwrap();
    let import = || {
        let export = StateDirectory::export(&path).unwrap();
        let read = Export::read(&export.write()).unwrap();
        assert!(read == export);
        StateDirectory::import(&copy, &read).unwrap()
    };
    let imported = import();
    let accounts = |state: &StateDirectory| fs::read_to_string(state.path().join(ACCOUNTS)).unwrap();
    let is_same = || {
        assert_eq!(accounts(&imported), accounts(&state));
        assert_eq!(imported.enrolled().unwrap(), state.enrolled().unwrap());
    };
    is_same();
    let keys = |state: &StateDirectory| {
        let keys = state.hub(&name("hub"), servers()).unwrap();
        (keys.signing.public_key(), keys.credentials.seed, keys.credentials.ca)
    };
    assert_eq!(keys(&imported), keys(&state));
    let default = Address::parse("x", 1).unwrap();
    assert_eq!(
        imported.addresses(&[], default.clone()).unwrap()[0].to_string(),
        "hub:4222"
    );
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o700);

    // Later enrolments and revocations are taken over. The directory's own addresses stay.
    let version = imported.version();
    import();
    assert_eq!(imported.version(), version, "nothing has changed");
    imported
        .addresses(&[Address::parse("hub2", 4222).unwrap()], default.clone())
        .unwrap();
    state.revoke(&name("h1")).unwrap();
    state.enroll(&name("h2"), &prefixes(), servers(), true).unwrap();
    state.enroll(&name("h3"), &prefixes(), servers(), false).unwrap();
    import();
    assert_ne!(imported.version(), version);
    is_same();
    assert_eq!(imported.addresses(&[], default).unwrap()[0].to_string(), "hub2:4222");

    // One that ended before it replaced the accounts.
    let outdated = accounts(&imported);
    state.revoke(&name("h3")).unwrap();
    import();
    imported.write(ACCOUNTS, &outdated).unwrap();
    import();
    is_same();

    // An interrupted import is completed, another fleet is not overwritten, and a missing directory is not exported.
    fs::remove_file(copy.join(authority::KEY)).unwrap();
    imported.write(UNFINISHED, "").unwrap();
    assert!(matches!(StateDirectory::open(&copy), Err(EnrolError::Unfinished(_))));
    import();
    imported.write(UNFINISHED, "").unwrap();
    import();
    StateDirectory::open(&copy).unwrap();
    assert_eq!(keys(&imported), keys(&state));
    let other = StateDirectory::open(&path.with_file_name("other")).unwrap();
    let before = keys(&other);
    let refused = StateDirectory::import(other.path(), &StateDirectory::export(&path).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("another fleet"), "{refused}");
    assert_eq!((keys(&other), other.enrolled().unwrap().len()), (before, 0));
    let missing = path.with_file_name("missing");
    assert!(matches!(StateDirectory::export(&missing), Err(EnrolError::NoState(_))));
    assert!(!missing.exists());
}

#[test]
fn what_is_no_export_is_refused() {
    let (_directory, state) = state();
    let text = StateDirectory::export(state.path()).unwrap().write();
    let seed = fs::read_to_string(state.path().join(SIGNING)).unwrap();
    let (_other_directory, other) = self::state();
    let own = |name: &str| fs::read_to_string(state.path().join(name)).unwrap();
    let other = |name: &str| fs::read_to_string(other.path().join(name)).unwrap();
    for wrong in [
        String::new(),
        text.replace(seed.trim(), "SA"),
        text.replace("BEGIN PRIVATE", "BEGIN"),
        text.replace("signing", "sign"),
        text.replace(&own("authority.pem"), &other("authority.pem")),
        text.replace(&own("authority.key"), &other("authority.key")),
    ] {
        assert!(wrong != text && Export::read(&wrong).is_err(), "{wrong}");
    }
    assert!(Export::read(&text).is_ok());
}
