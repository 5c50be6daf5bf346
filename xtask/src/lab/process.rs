//! Helpers of a lab that are this very program: started in a namespace, and waited for until they say that they work.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::namespace;
use crate::{exec, workspace};

/// How long one may take until it works.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts `xtask ARGUMENTS…` in `namespace`; what it prints goes to `log`, where `ready` has to appear.
pub(crate) fn start(namespace: &str, arguments: &[String], log: &Path, ready: &str) -> Result<Child> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(workspace::xtask_binary()?);
    // Out of reach of Ctrl-C in the terminal: the lab ends it.
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0);
    namespace::enter(&mut command, namespace);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
    let said = || fs::read_to_string(log).unwrap_or_default();
    let mut ended = false;
    exec::wait_until(PATIENCE, || {
        ended = !matches!(child.try_wait(), Ok(None));
        ended || said().contains(ready)
    });
    if ended || !said().contains(ready) {
        let _ = child.kill();
        let _ = child.wait();
        let word = said();
        bail!(
            "`{}` does not work: {}",
            exec::line(&command),
            word.lines().last().unwrap_or("no word from it")
        );
    }
    Ok(child)
}
