//! The names of unix sockets, each of them once: an address is a number here, which is copied and compared with every
//! datagram.
//!
//! Any number of names may be received. When there are many, the oldest are forgotten; those that were given
//! to a tool stay.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many names are kept that were received. As many datagrams, each of another peer, may wait to be printed or
/// answered.
const RECEIVED: usize = 1 << 18;

static NAMES: Mutex<Names> = Mutex::new(Names::new(RECEIVED));

/// The number of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Number {
    place: u32,
    /// How many names had this place before.
    round: u32,
}

/// Names by their numbers.
#[derive(Debug)]
struct Names {
    entries: Vec<Entry>,
    places: BTreeMap<Arc<[u8]>, u32>,
    /// The place of the oldest, once there are `most` of them.
    oldest: usize,
    most: usize,
}

#[derive(Debug)]
struct Entry {
    name: Arc<[u8]>,
    round: u32,
    stays: bool,
}

impl Number {
    /// No name.
    pub(super) const NONE: Self = Self { place: u32::MAX, round: 0 };

    /// Returns the number of a name that was given, and is never forgotten.
    pub(super) fn of_given(name: &[u8]) -> Self {
        lock().number(name, true)
    }

    /// Returns the number of a name that was received.
    pub(super) fn of_received(name: &[u8]) -> Self {
        lock().number(name, false)
    }

    /// Returns the name, unless there is none, or it was forgotten.
    pub(super) fn name(self) -> Option<Arc<[u8]>> {
        lock().name(self)
    }
}

impl Names {
    const fn new(most: usize) -> Self {
        Self { entries: Vec::new(), places: BTreeMap::new(), oldest: 0, most }
    }

    fn number(&mut self, name: &[u8], stays: bool) -> Number {
        if let Some(&place) = self.places.get(name) {
            let entry = &mut self.entries[place as usize];
            entry.stays |= stays;
            return Number { place, round: entry.round };
        }
        let name: Arc<[u8]> = name.into();
        let place = if stays { None } else { self.forget_oldest() };
        let place = place.unwrap_or_else(|| {
            self.entries.push(Entry { name: Arc::clone(&name), round: 0, stays });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[place];
        entry.name = Arc::clone(&name);
        let round = entry.round;
        // No memory holds more of them.
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        self.places.insert(name, place);
        Number { place, round }
    }

    /// Forgets the oldest name that does not stay, if there are many. Returns its place.
    fn forget_oldest(&mut self) -> Option<usize> {
        if self.entries.len() < self.most {
            return None;
        }
        let places = (0..self.entries.len()).map(|step| (self.oldest + step) % self.entries.len());
        let place = places.into_iter().find(|place| !self.entries[*place].stays)?;
        self.oldest = place + 1;
        let entry = &mut self.entries[place];
        entry.round = entry.round.wrapping_add(1);
        self.places.remove(&entry.name);
        Some(place)
    }

    fn name(&self, Number { place, round }: Number) -> Option<Arc<[u8]>> {
        let entry = self.entries.get(place as usize).filter(|entry| entry.round == round)?;
        Some(Arc::clone(&entry.name))
    }
}

/// Locks the names. They cannot be poisoned: no code panics while it holds the lock.
fn lock() -> MutexGuard<'static, Names> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_the_oldest_that_were_received_are_forgotten() {
        let mut names = Names::new(3);
        let given = names.number(b"given", true);
        let received: Vec<_> = (0..9_u8).map(|n| names.number(&[n], false)).collect();
        assert_eq!(names.name(given).as_deref(), Some(&b"given"[..]));
        for (n, number) in (0..).zip(&received) {
            assert_eq!(names.name(*number).is_some(), n >= 7, "{n}");
        }
        // One that is given afterwards stays as well, under the number that it has.
        assert_eq!(names.number(&[8], true), received[8]);
        for n in 10..20 {
            names.number(&[n], false);
        }
        assert_eq!(names.name(received[8]).as_deref(), Some(&[8][..]));
        assert_ne!(names.number(&[7], false), received[7]);
        assert_eq!(names.name(Number::NONE), None);
        assert_eq!((names.entries.len(), names.places.len()), (3, 3));
    }
}
