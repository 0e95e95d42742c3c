//! The sessions of a tool between clients and servers: one for each client, which ends once neither side has
//! sent anything for a while.
//!
//! It holds no sockets and decides nothing: a tool finds the session of a client by its key, and by its place the
//! session of a descriptor that is ready, [touches](SessionTable::touch) it with every datagram, and closes those that
//! have [expired](SessionTable::expire). Where it can have no more, the one that has been idle for longest
//! ([`SessionTable::oldest_idle`]) makes room. Each of these takes the same time for any number of sessions:
//!
//! ```ignore
//! let place = match sessions.place(&client) {
//!     Some(place) => place,
//!     None => sessions.insert(client, open()?, now),
//! };
//! sessions.touch(place, now);
//! sessions.get_mut(place).unwrap().send(datagram);
//! while let Some((client, session)) = sessions.expire(now) {}
//! set.wait(sessions.next_expiry())?;
//! ```

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Sessions, in the order in which they were last used.
#[derive(Debug)]
pub(super) struct SessionTable<K, V> {
    /// How long a session may be idle.
    idle: Duration,
    /// By their places; a place that was freed is used again.
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<usize>,
    places: HashMap<K, usize>,
    /// The ends of the list of sessions, which leads from the one that has been idle for longest to the one that was used
    /// last.
    ends: Option<Ends>,
}

/// A session.
#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    used: Instant,
    /// The places of the sessions that were used before and after it.
    older: Option<usize>,
    newer: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: usize,
    newest: usize,
}

impl<K: Clone + Eq + Hash, V> SessionTable<K, V> {
    /// Creates a table without a session, whose sessions expire once they have been idle for this time.
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, slots: Vec::new(), free: Vec::new(), places: HashMap::new(), ends: None }
    }

    /// Returns the number of sessions.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds a session, which is used `now`, and returns its place. One with the same key is replaced.
    pub(super) fn insert(&mut self, key: K, value: V, now: Instant) -> usize {
        if let Some(place) = self.place(&key) {
            self.remove(place);
        }
        let slot = Slot { key: key.clone(), value, used: now, older: None, newer: None };
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[place] = Some(slot);
        self.places.insert(key, place);
        self.link(place);
        place
    }

    /// Returns the place of the session with this key, which it keeps until it is removed.
    pub(super) fn place(&self, key: &K) -> Option<usize> {
        self.places.get(key).copied()
    }

    /// Returns the key and the value of the session at `place`, unless it was removed.
    pub(super) fn get(&self, place: usize) -> Option<(&K, &V)> {
        let slot = self.slots.get(place)?.as_ref()?;
        Some((&slot.key, &slot.value))
    }

    /// Returns the value of the session at `place`, unless it was removed.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut V> {
        Some(&mut self.slots.get_mut(place)?.as_mut()?.value)
    }

    /// Returns the values of all sessions.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().flatten().map(|slot| &mut slot.value)
    }

    /// Returns the places of the sessions whose value is `wanted`.
    pub(super) fn places_of(&self, wanted: impl Fn(&V) -> bool) -> Vec<usize> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(place, slot)| wanted(&slot.as_ref()?.value).then_some(place)).collect()
    }

    /// Notes that the session at `place` is used `now`.
    pub(super) fn touch(&mut self, place: usize, now: Instant) {
        let Some(Some(slot)) = self.slots.get_mut(place) else { return };
        slot.used = now;
        if self.ends.is_some_and(|ends| ends.newest != place) {
            self.unlink(place);
            self.link(place);
        }
    }

    /// Returns the place of the session that has been idle for longest, and since when.
    pub(super) fn oldest_idle(&self) -> Option<(usize, Instant)> {
        let place = self.ends?.oldest;
        Some((place, self.slots[place].as_ref()?.used))
    }

    /// Returns when the next session expires, unless that is beyond the range of the clock.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let (_, used) = self.oldest_idle()?;
        used.checked_add(self.idle)
    }

    /// Removes the session that has been idle for longest, and returns it, if it has expired by `now`. There may be more.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(K, V)> {
        let (place, used) = self.oldest_idle()?;
        if now.saturating_duration_since(used) < self.idle {
            return None;
        }
        self.remove(place)
    }

    /// Removes the session at `place`, and returns it.
    pub(super) fn remove(&mut self, place: usize) -> Option<(K, V)> {
        self.slots.get(place)?.as_ref()?;
        self.unlink(place);
        let Slot { key, value, .. } = self.slots[place].take()?;
        self.free.push(place);
        self.places.remove(&key);
        Some((key, value))
    }

    /// Makes the session at `place`, which is not in the list, the newest.
    fn link(&mut self, place: usize) {
        let before = self.ends.map(|ends| ends.newest);
        if let Some(slot) = &mut self.slots[place] {
            (slot.older, slot.newer) = (before, None);
        }
        if let Some(newest) = before.and_then(|before| self.slots[before].as_mut()) {
            newest.newer = Some(place);
        }
        let oldest = self.ends.map_or(place, |ends| ends.oldest);
        self.ends = Some(Ends { oldest, newest: place });
    }

    /// Takes the session at `place` out of the list.
    fn unlink(&mut self, place: usize) {
        let (Some(slot), Some(ends)) = (&self.slots[place], self.ends) else { return };
        let (older, newer) = (slot.older, slot.newer);
        if let Some(slot) = older.and_then(|older| self.slots[older].as_mut()) {
            slot.newer = newer;
        }
        if let Some(slot) = newer.and_then(|newer| self.slots[newer].as_mut()) {
            slot.older = older;
        }
        self.ends = match (older, newer) {
            (None, None) => None,
            (None, Some(oldest)) => Some(Ends { oldest, ..ends }),
            (Some(newest), None) => Some(Ends { newest, ..ends }),
            (Some(_), Some(_)) => Some(ends),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn expired(table: &mut SessionTable<&'static str, u32>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| table.expire(now)).map(|(key, _)| key).collect()
    }

    #[test]
    fn sessions_expire_in_the_order_in_which_they_were_last_used() {
        let (start, mut table) = (Instant::now(), SessionTable::new(SECOND));
        assert!(table.next_expiry().is_none() && table.oldest_idle().is_none());
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|key| table.insert(key, 0, start));
        for (place, after) in [(b, 1), (a, 2), (d, 3), (d, 4), (a, 5)] {
            table.touch(place, start + SECOND * after);
        }
        assert_eq!(table.oldest_idle(), Some((c, start)));
        assert_eq!(table.next_expiry(), Some(start + SECOND));
        let almost = start + Duration::from_nanos(999_999_999);
        assert_eq!(expired(&mut table, almost), [""; 0]);
        assert_eq!(expired(&mut table, start + SECOND * 2), ["c", "b"]);
        assert_eq!(expired(&mut table, start), [""; 0]);
        assert_eq!(table.len(), 2);
        assert_eq!(expired(&mut table, start + SECOND * 6), ["d", "a"]);
        assert!(table.len() == 0 && table.next_expiry().is_none());
    }

    #[test]
    fn a_session_keeps_its_place_and_a_free_place_is_used_again() {
        let (now, mut table) = (Instant::now(), SessionTable::new(SECOND));
        let [a, b, c] = ["a", "b", "c"].map(|key| table.insert(key, 0, now));
        *table.get_mut(c).unwrap() = 7;
        assert_eq!(table.remove(b), Some(("b", 0)));
        assert_eq!((table.remove(b), table.get(b), table.place(&"b")), (None, None, None));
        table.touch(b, now + SECOND);
        assert_eq!(table.insert("d", 4, now), b);
        assert_eq!(
            [a, b, c].map(|place| table.get(place)),
            [Some((&"a", &0)), Some((&"d", &4)), Some((&"c", &7))]
        );
        assert_eq!(table.values_mut().map(|value| *value).collect::<Vec<_>>(), [0, 4, 7]);
        assert_eq!(table.insert("c", 8, now), c);
        assert_eq!((table.len(), table.place(&"c"), table.get(c)), (3, Some(c), Some((&"c", &8))));
        assert_eq!(expired(&mut table, now + SECOND), ["a", "d", "c"]);
    }

    #[test]
    fn the_list_holds_whatever_is_removed_and_touched() {
        let (start, mut table) = (Instant::now(), SessionTable::new(SECOND));
        let mut expected: Vec<u32> = Vec::new();
        let mut random: u32 = 1;
        for step in 0..2000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (key, now) = (random >> 27, start + Duration::from_nanos(step));
            match (table.place(&key), random >> 8 & 3) {
                (None, _) => drop(table.insert(key, (), now)),
                (Some(place), 0) => drop(table.remove(place)),
                (Some(place), _) => table.touch(place, now),
            }
            expected.retain(|known| *known != key);
            if table.place(&key).is_some() {
                expected.push(key);
            }
            let oldest = table.oldest_idle().and_then(|(place, _)| table.get(place)).map(|(key, ())| *key);
            assert_eq!((oldest, table.len()), (expected.first().copied(), expected.len()), "step {step}");
        }
        let all: Vec<_> =
            std::iter::from_fn(|| table.expire(start + SECOND * 2)).map(|(key, ())| key).collect();
        assert_eq!(all, expected);
    }
}
