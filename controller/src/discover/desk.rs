//! The discovery of one Configuration over all endpoints of its handler. In: what it asks for, which
//! endpoints there are, what happens to calls. Out: calls to start and to stop, and its finding.
//! No clock, no socket.
//!
//! Where the endpoints of a handler change, those before stand until one of the new has sent a list.
//! Another handler's devices are other devices: where the name changes, there is no list until it sends one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::call::{Ask, CallId, Happened};
use super::devices::Devices;
use super::line::{CallIds, Command, Line, Progress};
use super::{DiscoveryState, Finding, LeftOut};
use crate::handlers::{Book, Endpoint};
use crate::references::Unresolved;

/// An endpoint under a handler's name; in their order the lists are united.
pub(super) type Place = (Arc<str>, Endpoint);

/// What is to be done at which endpoint.
pub(super) type Todo = Vec<(Place, Command)>;

struct Seat {
    line: Line,
    /// Whether it is registered now.
    wanted: bool,
}

/// One Configuration.
#[derive(Default)]
pub(super) struct Desk {
    seats: BTreeMap<Place, Seat>,
    trouble: Option<Unresolved>,
    not_shared: bool,
    begun: u64,
    devices: Option<Arc<Devices>>,
    left_out: LeftOut,
}

impl Desk {
    /// Asks the handler's endpoints for this, or leaves what runs as it is where it is not known what to ask.
    pub fn steer(
        &mut self,
        handler: &str,
        book: &Book,
        ask: Result<&Arc<Ask>, Unresolved>,
        ids: &mut CallIds,
    ) -> Todo {
        let mut todo = Todo::new();
        let known = book.get_key_value(handler);
        self.not_shared = known.is_some_and(|(_, known)| known.not_shared);
        self.forget_other_handlers(handler, &mut todo);
        for (place, seat) in &mut self.seats {
            seat.wanted = false;
            let there = book.get(&place.0);
            if there.is_none_or(|known| !known.endpoints.contains_key(&place.1)) {
                add(&mut todo, place, seat.line.stop());
            }
        }
        let endpoints = known
            .iter()
            .flat_map(|(name, known)| known.endpoints.keys().map(|at| (Arc::clone(name), at)));
        for (name, endpoint) in endpoints {
            let place = (name, endpoint.clone());
            let seat = self.seats.entry(place.clone()).or_insert_with(|| Seat {
                line: Line::default(),
                wanted: true,
            });
            seat.wanted = true;
            if let Ok(ask) = ask {
                add(&mut todo, &place, seat.line.want(ask, ids));
            }
        }
        self.trouble = ask.err();
        self.clear(&mut todo);
        todo
    }

    /// Takes note of what has happened to a call.
    pub fn happened(&mut self, id: CallId, what: Happened, ids: &mut CallIds) -> Todo {
        let mut todo = Todo::new();
        let listed = matches!(what, Happened::List { .. });
        let mut seats = self.seats.iter_mut();
        if let Some((place, seat)) = seats.find(|(_, seat)| seat.line.knows(id)) {
            let (commands, begun) = seat.line.happened(id, what, ids);
            add(&mut todo, place, commands);
            self.begun += u64::from(begun);
        }
        if listed {
            self.unite();
            self.clear(&mut todo);
        }
        todo
    }

    /// Ends all calls.
    pub fn close(&mut self) -> Todo {
        let mut todo = Todo::new();
        for (place, seat) in &mut self.seats {
            add(&mut todo, place, seat.line.stop());
        }
        todo
    }

    fn forget_other_handlers(&mut self, handler: &str, todo: &mut Todo) {
        let before = self.seats.len();
        self.seats.retain(|place, seat| {
            let stays = *place.0 == *handler;
            if !stays {
                add(todo, place, seat.line.stop());
            }
            stays
        });
        if self.seats.len() < before {
            self.unite();
        }
    }

    /// Forgets endpoints that are not wanted any more, once one that is has sent a list.
    fn clear(&mut self, todo: &mut Todo) {
        let listed = |seat: &Seat| seat.wanted && seat.line.list().is_some();
        let none_listed = !self.seats.values().any(listed);
        let before = self.seats.len();
        self.seats.retain(|place, seat| {
            let stays = seat.wanted || (none_listed && seat.line.list().is_some());
            if !stays {
                add(todo, place, seat.line.stop());
            }
            stays
        });
        if self.seats.len() < before {
            let old = self.devices.clone();
            self.unite();
            let lost = |old: &Arc<Devices>| {
                let now = self.devices.as_deref();
                old.keys()
                    .any(|id| now.is_none_or(|now| !now.contains_key(id)))
            };
            self.begun += u64::from(old.as_ref().is_some_and(lost));
        }
    }

    /// One list of all; of two devices with one id that of the first endpoint.
    fn unite(&mut self) {
        let lists: Vec<_> = self
            .seats
            .values()
            .filter_map(|seat| seat.line.list())
            .collect();
        self.left_out = LeftOut::default();
        for list in &lists {
            self.left_out.add(list.left_out);
        }
        let united = match lists.as_slice() {
            [] => None,
            [only] => Some(Arc::clone(&only.devices)),
            several => {
                let mut united = Devices::new();
                for device in several.iter().rev().flat_map(|list| list.devices.iter()) {
                    united.insert(Arc::clone(device.0), Arc::clone(device.1));
                }
                Some(Arc::new(united))
            }
        };
        // Who compares lists is spared the work where they are the same.
        if self.devices != united {
            self.devices = united;
        }
    }

    /// How it fares.
    pub fn finding(&self) -> Finding {
        Finding {
            state: self.state(),
            stream: self.begun,
            devices: self.devices.clone(),
            left_out: self.left_out,
            servers: None,
        }
    }

    fn state(&self) -> DiscoveryState {
        if let Some(Unresolved::Because(reason)) = &self.trouble {
            let reason = reason.clone();
            return DiscoveryState::Unresolved { reason };
        }
        let wanted = || self.seats.values().filter(|seat| seat.wanted);
        if wanted().next().is_none() {
            return if self.not_shared {
                DiscoveryState::NotShared
            } else {
                DiscoveryState::NoHandler
            };
        }
        let mut failed = None;
        for seat in wanted() {
            match seat.line.progress() {
                Progress::Open => return DiscoveryState::Open,
                Progress::Failed(reason) => {
                    failed.get_or_insert(reason);
                }
                Progress::Connecting => {}
            }
        }
        match failed {
            Some(reason) => DiscoveryState::Failed { reason },
            None => DiscoveryState::Connecting,
        }
    }
}

fn add(todo: &mut Todo, place: &Place, commands: Vec<Command>) {
    todo.extend(commands.into_iter().map(|command| (place.clone(), command)));
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
