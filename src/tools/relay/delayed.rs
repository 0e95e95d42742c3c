//! Datagrams that are sent later. It knows no socket and no clock.

use std::collections::BTreeMap;
use std::time::Instant;

/// Datagrams that are held until they are due, each with what is needed to send it.
#[derive(Debug)]
pub(super) struct Delayed<T> {
    /// Those that are due at the same time are in the order in which they arrived.
    held: BTreeMap<(Instant, u64), T>,
    /// How many were ever held.
    pushed: u64,
}

impl<T> Delayed<T> {
    /// Creates one without a datagram.
    pub(super) fn new() -> Self {
        Self { held: BTreeMap::new(), pushed: 0 }
    }

    /// Holds a datagram until it is `due`.
    pub(super) fn push(&mut self, due: Instant, datagram: T) {
        self.pushed += 1;
        self.held.insert((due, self.pushed), datagram);
    }

    /// Returns when the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.held.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes the next one, if it is due `now` and `wanted`.
    pub(super) fn pop_due_if(&mut self, now: Instant, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let next = self.held.first_entry()?;
        (next.key().0 <= now && wanted(next.get())).then(|| next.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_datagram_that_is_due_but_not_wanted_is_kept() {
        let (now, mut delayed) = (Instant::now(), Delayed::new());
        delayed.push(now, 'a');
        assert_eq!(delayed.pop_due_if(now, |held| *held == 'b'), None);
        assert_eq!(delayed.pop_due_if(now, |held| *held == 'a'), Some('a'));
    }

    proptest! {
        #[test]
        fn datagrams_leave_when_they_are_due_and_those_of_one_time_in_their_order(
            steps in prop::collection::vec((0u64..50, 0u64..30), 1..200),
        ) {
            let start = Instant::now();
            let (mut delayed, mut now) = (Delayed::new(), start);
            let mut left = Vec::new();
            let mut take = |delayed: &mut Delayed<_>, now| {
                while let Some((due, number)) = delayed.pop_due_if(now, |_| true) {
                    prop_assert!(due <= now);
                    left.push((now, due, number));
                }
                prop_assert!(delayed.next().is_none_or(|next| next > now));
                Ok(())
            };
            for (number, &(delay, pause)) in steps.iter().enumerate() {
                let due = now + Duration::from_millis(delay);
                delayed.push(due, (due, number));
                take(&mut delayed, now)?;
                now += Duration::from_millis(pause);
            }
            take(&mut delayed, now + Duration::from_millis(50))?;
            prop_assert_eq!((delayed.next(), left.len()), (None, steps.len()));
            prop_assert!(left.is_sorted());
        }
    }
}
