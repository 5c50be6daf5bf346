//! Tests of LLDP.
