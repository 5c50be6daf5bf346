//! The direction of losses, from how many probes the reflector has answered.

/// Follows the reflector's own counter (RFC 8762 §4.3.1), of which each processor sees some numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReflectorCounter {
    /// The newest number seen, continued beyond 32 bits, and the one with which the run begins.
    newest: u64,
    begin: u64,
    /// Of each processor, what it has reported last.
    seen: Vec<(usize, u32)>,
    /// The reflector repeats the sender's numbers, or has begun anew.
    is_useless: bool,
}

impl ReflectorCounter {
    /// A run begins after replies of which each processor has seen the newest: sequence number and reflector's number.
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

    /// Takes the newest numbers that each processor has seen. `arrived` probes have certainly arrived at the reflector.
    pub fn follow(&mut self, newest: &[(usize, u32, u32)], arrived: u64) -> Reflected {
        for &(processor, _, reflected) in newest {
            let known = self.seen.iter_mut().find(|(known, _)| *known == processor);
            match known {
                // A processor that gets no more replies would look far ahead after half of all numbers.
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

/// What is known of the reflector's own counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reflected {
    /// It repeats the sender's numbers, or has begun anew during the run.
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
