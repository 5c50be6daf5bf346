//! Which hub coordinates.
