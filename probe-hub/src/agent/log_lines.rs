//! What is said in the log, and how often.

/// Says a thing once, until it is another thing.
#[derive(Debug, Default)]
pub struct Said(Option<String>);

impl Said {
    pub fn is_new(&mut self, text: &str) -> bool {
        let is_new = self.0.as_deref() != Some(text);
        if is_new {
            self.0 = Some(text.to_owned());
        }
        is_new
    }

    /// Whether something was said.
    pub fn clear(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// Lines of others: a few in each minute.
#[derive(Debug, Default)]
pub struct Allowance {
    minute: u64,
    lines: u32,
}

impl Allowance {
    const PER_MINUTE: u32 = 10;

    pub fn take(&mut self, now_ns: u64) -> bool {
        let minute = now_ns / 60_000_000_000;
        if self.minute != minute {
            *self = Self { minute, lines: 0 };
        }
        self.lines += 1;
        self.lines <= Self::PER_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_logged_once_until_it_changes() {
        let mut said = Said::default();
        let new: Vec<_> = ["a", "a", "b", "a", "a"].map(|text| said.is_new(text)).into();
        assert_eq!(new, [true, false, true, true, false]);
        assert_eq!([said.clear(), said.clear(), said.is_new("a")], [true, false, true]);
    }

    #[test]
    fn lines_of_others_are_bounded() {
        let mut allowance = Allowance::default();
        let mut lines = |now_ns| (0..1_000).filter(|_| allowance.take(now_ns)).count();
        assert_eq!([lines(1), lines(2), lines(60_000_000_001)], [10, 0, 10]);
    }
}
