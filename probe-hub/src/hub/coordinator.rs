//! Follows presence and heartbeats, and assigns neighbours while this hub holds the lease.

use super::Hub;

pub async fn run(hub: Hub) {
    hub.stopped().await;
}
