//! The two directions of a round trip.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The probe, on its way to the reflector.
    Forward,
    /// The reply, on its way back.
    Backward,
}
