//! The attach matrix.
