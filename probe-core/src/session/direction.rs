//! The two directions in which a probe can be lost.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The probe did not reach the reflector.
    Forward,
    /// The reply did not come back.
    Backward,
}
