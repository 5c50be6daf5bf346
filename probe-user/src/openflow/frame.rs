//! Cuts a byte stream into messages.
