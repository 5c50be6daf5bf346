//! What Open vSwitch knows of a port, from its database (OVSDB, RFC 7047), and how it forwards a flow.
//!
//! Nothing is changed there. A thread of its own follows the database, so measuring never waits for it.

mod database;
mod facts;
mod follow;
mod jsonrpc;
mod trace;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use crate::ovs::facts::{PortFacts, Tunnel, Wanted};
use crate::ovs::follow::Shared;
pub use crate::ovs::follow::Source;
pub use crate::ovs::trace::{Flow, Trace, TraceError, trace};

/// Where Open vSwitch has its database's socket, unless it was built or started otherwise.
pub const USUAL_SOCKET: &str = "/var/run/openvswitch/db.sock";

/// The database of one Open vSwitch, as it is now. Dropped, the thread ends.
#[derive(Debug)]
pub struct Ovs {
    shared: Arc<Shared>,
}

impl Ovs {
    /// Follows a database from now on. A failure to connect or to read is a warning in the log, and is tried again.
    ///
    /// Call it after privileges are dropped: its thread keeps no capability.
    pub fn follow(source: Source) -> io::Result<Self> {
        Ok(Self {
            shared: follow::start(source)?,
        })
    }

    /// Returns when the database has been read once, or is away, or after this time.
    pub fn wait(&self, timeout: Duration) {
        self.shared.wait(timeout);
    }

    /// Another number after each change of the database.
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// `None` if no port of the switch is the wanted one, or the database has never been read. While it is away, the facts
    /// before hold: the switch, too, goes on with what it read last.
    pub fn facts_of(&self, wanted: &Wanted) -> Option<PortFacts> {
        self.shared.facts_of(wanted)
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
