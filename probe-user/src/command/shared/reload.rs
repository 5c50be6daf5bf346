//! Reads the configuration of a running command again.

use crate::config::settings::{Accept, Settings};
use crate::output::diagnostics;
use crate::service;

/// Keys of answering, which a running agent or reflector applies.
pub const ANSWERING: [&str; 5] = ["allow", "rate", "rate-group", "rate-source", "volley-limit"];
/// Keys of the results, which both apply too.
pub const RESULTS: [&str; 2] = ["format", "output"];

type Validate<T> = Box<dyn Fn(&Settings) -> Result<T, String>>;

/// Keeps the settings of a command, to compare them with those that it reads again.
pub struct Reloader<T> {
    settings: Settings,
    read: Box<dyn Fn() -> Result<Settings, String>>,
    validate: Validate<T>,
}

/// A configuration that can be applied at once.
pub struct Reload<T> {
    pub config: T,
    settings: Settings,
    /// Keys that have changed and are in `config`.
    applied: Vec<String>,
    /// Keys that have changed and are in `config` as before.
    left: Vec<String>,
}

impl<T> Reload<T> {
    pub fn changes(&self, keys: &[&str]) -> bool {
        self.applied.iter().any(|key| keys.contains(&key.as_str()))
    }

    /// A message about flags, with the place of the value that it is about.
    pub fn placed(&self, message: &str) -> String {
        let accept: Accept<'_> = &|_| Ok(());
        self.settings.placed(message, accept)
    }
}

impl<T> Reloader<T> {
    /// `settings` are the current ones. `read` reads them again; `validate` fails with a line that names the place of the
    /// error.
    pub fn new(
        settings: Settings,
        read: impl Fn() -> Result<Settings, String> + 'static,
        validate: impl Fn(&Settings) -> Result<T, String> + 'static,
    ) -> Self {
        Self {
            settings,
            read: Box::new(read),
            validate: Box::new(validate),
        }
    }

    /// Whether there is a file to read again.
    pub fn has_files(&self) -> bool {
        !self.settings.files.is_empty()
    }

    /// Reads the configuration again. `live` are the keys that can be applied to the running command; all others stay as
    /// they are. A configuration that is wrong, or wrong without the changes that need a restart, is refused as a whole.
    pub fn read(&self, live: &[&str]) -> Result<Reload<T>, String> {
        let wanted = (self.read)()?;
        (self.validate)(&wanted)?;
        self.limited(wanted, live)
    }

    /// The same without the changes of `keys`.
    pub fn without(&self, reload: &Reload<T>, live: &[&str], keys: &[&str]) -> Result<Reload<T>, String> {
        let live: Vec<_> = live.iter().copied().filter(|key| !keys.contains(key)).collect();
        let mut limited = self.limited(reload.settings.clone(), &live)?;
        limited.left.extend(reload.left.iter().cloned());
        limited.left.sort_unstable();
        limited.left.dedup();
        Ok(limited)
    }

    fn limited(&self, wanted: Settings, live: &[&str]) -> Result<Reload<T>, String> {
        let changes = self.settings.changes(&wanted);
        let (applied, left): (Vec<_>, Vec<_>) = changes.into_iter().partition(|key| live.contains(&key.as_str()));
        let settings = wanted.with(&left, &self.settings);
        Ok(Reload {
            config: (self.validate)(&settings)?,
            settings,
            applied,
            left,
        })
    }

    /// Ends a reload whose changes were applied, with a line about them.
    pub fn applied(&mut self, reload: Reload<T>) {
        let Reload {
            settings,
            applied,
            left,
            ..
        } = reload;
        let what = match applied.is_empty() {
            true => "nothing changed".to_owned(),
            false => format!("applied {}", applied.join(", ")),
        };
        let rest = match (left.is_empty(), applied.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!(
                " that can change while kstamp runs; restart kstamp for {}",
                left.join(", ")
            ),
            (false, false) => format!("; restart kstamp for {}", left.join(", ")),
        };
        diagnostics::line(&format!("configuration read again: {what}{rest}"));
        service::end_reload();
        self.settings = settings;
    }

    /// Ends a reload of which nothing was applied, with a line that says why.
    pub fn refused(&self, why: &str) {
        diagnostics::line(&format!("configuration not changed: {why}"));
        service::end_reload();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::*;
    use crate::config::schema::Kind;
    use crate::config::settings::{Place, Setting};

    fn settings(text: &str) -> Settings {
        let setting = |value: &str| Setting {
            kind: Kind::Value,
            values: vec![value.into()],
            place: Place::CommandLine,
        };
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        Settings {
            command: "agent".to_owned(),
            action: Vec::new(),
            files: Vec::new(),
            by_key: pairs
                .map(|(key, value)| (key.to_owned(), setting(value)))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn keys_that_need_a_restart_stay_and_are_named_each_time() {
        let file = Rc::new(RefCell::new(settings("a=1 b=1 c=1")));
        let read = Rc::clone(&file);
        let validate = |settings: &Settings| {
            let text = format!("{:?}", settings.words());
            if text.contains("=x") {
                Err("x is wrong".to_owned())
            } else {
                Ok(text)
            }
        };
        let mut reloader = Reloader::new(settings("a=1 b=1 c=1"), move || Ok(read.borrow().clone()), validate);
        *file.borrow_mut() = settings("a=2 b=2 d=1");
        let limited = reloader.read(&["a", "d"]).unwrap();
        let limited = reloader.without(&limited, &["a", "d"], &["d"]).unwrap();
        assert!(!limited.config.contains("d=1"));
        assert_eq!(
            (limited.applied, limited.left),
            (vec!["a".to_owned()], ["b", "c", "d"].map(str::to_owned).to_vec())
        );
        for _ in 0..2 {
            let reload = reloader.read(&["a", "d", "e"]).unwrap();
            assert_eq!(reload.left, ["b", "c"]);
            assert!(reload.config.contains("a=2") && reload.config.contains("b=1") && reload.config.contains("c=1"));
            reloader.applied(reload);
        }
        assert!(reloader.read(&["a", "d", "e"]).unwrap().applied.is_empty());
        for wrong in ["a=x b=1 c=1", "a=2 b=x"] {
            *file.borrow_mut() = settings(wrong);
            assert_eq!(reloader.read(&["a"]).err().unwrap(), "x is wrong");
        }
    }
}
