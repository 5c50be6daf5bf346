//! The direction of losses, from how many probes the reflector has counted.

/// What is known of the reflector's own counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reflected {
    /// It repeats the sender's number, or began anew during the run.
    Unknown,
    /// It has answered so many probes up to its newest reply, copies that arrived there included.
    Count(u64),
}

/// Losses by direction. Their sum is the number of lost probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    pub forward: u64,
    pub backward: u64,
    pub unknown: u64,
}

impl Losses {
    /// `lost` of the probes have no reply, `received` have one. `copied` of them arrived twice at the reflector.
    ///
    /// The reflector has answered `reflected` times: each of those answers is a first reply, an answer to a copy, or was
    /// lost on its way back. An answer that is not counted yet was to a probe after the newest reply, and such a probe may
    /// still be pending; so at most the `pending` ones are.
    pub fn new(lost: u64, received: u64, copied: u64, reflected: Reflected) -> Self {
        let Reflected::Count(reflected) = reflected else {
            return Self {
                unknown: lost,
                ..Self::default()
            };
        };
        let backward = reflected.saturating_sub(received + copied).min(lost);
        Self {
            forward: lost - backward,
            backward,
            unknown: 0,
        }
    }
}
