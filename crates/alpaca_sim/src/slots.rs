//! Who holds which of an account's few connections.
//!
//! The incumbent wins; a slot is free the moment its connection is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All slots of the venue.
#[derive(Debug)]
pub(crate) struct Slots {
    per_endpoint: usize,
    seats: Mutex<HashMap<(String, String), Vec<Place>>>,
}

#[derive(Debug, Default)]
struct Place {
    taken: bool,
    position: Arc<AtomicU64>,
}

/// One held slot; dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Seat {
    slots: Arc<Slots>,
    account: String,
    path: String,
    number: usize,
    position: Arc<AtomicU64>,
}

impl Slots {
    pub(crate) fn new(per_endpoint: usize) -> Arc<Slots> {
        Arc::new(Slots { per_endpoint, seats: Mutex::default() })
    }

    /// Takes a free slot of `account` at `path`, or `None` when all are held.
    pub(crate) fn take(self: &Arc<Slots>, account: &str, path: &str) -> Option<Seat> {
        let mut seats = self.seats();
        let places = seats.entry((account.to_owned(), path.to_owned())).or_default();
        places.resize_with(self.per_endpoint, Place::default);
        let number = places.iter().position(|p| !p.taken)?;
        places[number].taken = true;
        Some(Seat {
            slots: Arc::clone(self),
            account: account.to_owned(),
            path: path.to_owned(),
            number,
            position: Arc::clone(&places[number].position),
        })
    }

    /// (account, path, place on the tape) of every slot that was ever held.
    pub(crate) fn positions(&self) -> Vec<(String, String, u64)> {
        let seats = self.seats();
        let mut all: Vec<_> = seats
            .iter()
            .flat_map(|((account, path), places)| {
                places.iter().map(|place| {
                    let position = place.position.load(Ordering::Relaxed);
                    (account.clone(), path.clone(), position)
                })
            })
            .collect();
        all.sort();
        all
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<(String, String), Vec<Place>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The account that holds the slot.
    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// How many elements of the tape this slot has gone past, over all its connections.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(crate) fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let key = (std::mem::take(&mut self.account), std::mem::take(&mut self.path));
        if let Some(places) = self.slots.seats().get_mut(&key) {
            places[self.number].taken = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_per_account_and_path_and_free_when_gone() {
        let slots = Slots::new(1);
        let seat = slots.take("k", "/v2/iex").unwrap();
        seat.set_position(7);
        assert!(slots.take("k", "/v2/iex").is_none());
        assert!(slots.take("other", "/v2/iex").is_some());
        assert!(slots.take("k", "/v2/sip").is_some());
        drop(seat);
        assert_eq!(slots.take("k", "/v2/iex").unwrap().position(), 7);
    }
}
