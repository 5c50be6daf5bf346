//! The direction of losses, by the number of probes that the reflector has answered.

/// Follows the reflector's own counter (RFC 8762 §4.3.1). Each processor sees some of its numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReflectorCounter {
    /// The newest number seen, extended beyond 32 bits.
    newest: u64,
    /// The number with which the run begins.
    begin: u64,
    /// The last number that each processor has reported.
    seen: Vec<(usize, u32)>,
    /// The reflector repeats the sender's numbers, or has restarted.
    is_useless: bool,
}

impl ReflectorCounter {
    /// Begins a run. `newest` are the newest replies before the run: processor, sequence number and reflector's number.
    pub fn after(newest: &[(usize, u32, u32)]) -> Self {
        let mut counter = Self::default();
        let Some(&(_, sequence, reflected)) = newest
            .iter()
            .reduce(|a, b| if (b.2.wrapping_sub(a.2) as i32) > 0 { b } else { a })
        else {
            counter.is_useless = true;
            return counter;
        };
        counter.newest = u64::from(reflected);
        counter.begin = u64::from(reflected);
        counter.is_useless = sequence == reflected;
        counter
    }

    /// Takes the newest numbers of each processor. At least `arrived` probes have reached the reflector.
    pub fn follow(&mut self, newest: &[(usize, u32, u32)], arrived: u64) -> Reflected {
        for &(processor, _, reflected) in newest {
            let known = self.seen.iter_mut().find(|(known, _)| *known == processor);
            match known {
                // The number of a processor without new replies is skipped: after 2³¹ others it would seem ahead of them.
                Some((_, seen)) if *seen == reflected => continue,
                Some((_, seen)) => *seen = reflected,
                None => self.seen.push((processor, reflected)),
            }
            let ahead = reflected.wrapping_sub(self.newest as u32) as i32;
            self.newest += u64::try_from(ahead).unwrap_or(0);
        }
        let reflected = self.newest - self.begin;
        self.is_useless |= arrived > reflected;
        if self.is_useless {
            Reflected::Unknown
        } else {
            Reflected::Count(reflected)
        }
    }
}

/// The state of the reflector's own counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reflected {
    /// It repeats the sender's numbers, or has restarted during the run.
    Unknown,
    /// The number of answers up to its newest reply, those to copies of probes included.
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
    /// `lost` probes have no reply, `received` have one. `copied` replies answer a copy of a probe that has another one.
    ///
    /// The reflector has answered `reflected` times: each of these answers is a first reply, an answer to a copy, or was
    /// lost on its way back.
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

#[cfg(test)]
mod tests;
