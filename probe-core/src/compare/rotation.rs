//! The order of the methods: each sends once per round, and each follows each other equally often, so none profits more
//! than another from caches warmed by the previous one.

use crate::compare::Method;

/// Cycles through all permutations of its methods.
#[derive(Debug, Clone)]
pub struct Rotation {
    orders: Vec<Vec<Method>>,
    order: usize,
    place: usize,
}

impl Rotation {
    /// `methods` must not be empty.
    pub fn new(methods: &[Method]) -> Self {
        let mut orders: Vec<Vec<Method>> = vec![Vec::new()];
        for _ in methods {
            orders = orders
                .iter()
                .flat_map(|order| {
                    let left = methods.iter().filter(|method| !order.contains(method));
                    left.map(|method| [order.as_slice(), &[*method]].concat())
                })
                .collect();
        }
        Self {
            orders,
            order: 0,
            place: 0,
        }
    }

    /// The next method, and whether it ends a round.
    pub fn turn(&mut self) -> (Method, bool) {
        let order = &self.orders[self.order];
        let method = order[self.place];
        self.place += 1;
        let ends = self.place == order.len();
        if ends {
            self.place = 0;
            self.order = (self.order + 1) % self.orders.len();
        }
        (method, ends)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_method_has_every_place_equally_often() {
        let mut rotation = Rotation::new(&Method::ALL);
        let mut places = BTreeMap::new();
        for _ in 0..6 {
            for place in 0..3 {
                let (method, ends) = rotation.turn();
                assert_eq!(ends, place == 2);
                *places.entry((method, place)).or_insert(0) += 1;
            }
        }
        assert_eq!(places.len(), 9);
        assert!(places.values().all(|&times| times == 2), "{places:?}");
    }

    #[test]
    fn no_method_follows_one_more_often_than_another() {
        let mut rotation = Rotation::new(&Method::ALL);
        let mut before = rotation.turn().0;
        let mut pairs: BTreeMap<_, u32> = BTreeMap::new();
        // Six rounds, and the first of the seventh.
        for _ in 0..18 {
            let (method, _) = rotation.turn();
            *pairs.entry((before, method)).or_insert(0) += 1;
            before = method;
        }
        let (a, b, c) = (Method::Userspace, Method::Socket, Method::Kernel);
        for method in Method::ALL {
            let others = [a, b, c].into_iter().filter(|other| *other != method);
            let times: Vec<_> = others
                .map(|other| pairs.get(&(other, method)).copied().unwrap_or(0))
                .collect();
            assert!(times[0].abs_diff(times[1]) <= 1, "{method:?}: {pairs:?}");
        }
    }

    #[test]
    fn one_method_alone_is_always_its_own_turn() {
        let mut rotation = Rotation::new(&[Method::Kernel]);
        assert_eq!([rotation.turn(), rotation.turn()], [(Method::Kernel, true); 2]);
    }
}
