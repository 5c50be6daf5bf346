//! The addresses of this host that programs look for.

use std::borrow::BorrowMut;
use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::maps::{HashMap, MapData};
use probe_common::abi::Address;
use probe_common::hops::MAX_ADDRESSES;

use crate::backend::error::ObjectError;

/// The keys of a map.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses(BTreeSet<IpAddr>);

impl OwnAddresses {
    /// Makes `addresses` the keys of `map`, at most [`MAX_ADDRESSES`] of them. `name` is that of the map.
    pub(super) fn set(
        &mut self,
        addresses: &[IpAddr],
        map: &mut HashMap<impl BorrowMut<MapData>, Address, u32>,
        name: &'static str,
    ) -> Result<(), ObjectError> {
        let wanted: BTreeSet<IpAddr> = addresses.iter().take(MAX_ADDRESSES as usize).copied().collect();
        for gone in &self.0 - &wanted {
            map.remove(&Address::from(gone)).map_err(ObjectError::map(name))?;
            self.0.remove(&gone);
        }
        for new in &wanted - &self.0 {
            map.insert(Address::from(new), 0, 0).map_err(ObjectError::map(name))?;
            self.0.insert(new);
        }
        Ok(())
    }
}
