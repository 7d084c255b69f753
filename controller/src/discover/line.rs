//! Which call of one endpoint counts. In: what is to be asked, and what happens to calls. Out: calls
//! to start and to stop, and the endpoint's newest list. No clock, no socket.
//!
//! Other details are asked for beside the running stream, which is given up when the new one has sent
//! its first list. Other properties alone take the running stream's place at once, because a handler
//! carries a session on with new credentials only when the old stream is gone; if it fails with them,
//! the old ones are asked for again, beside them. The list stands through all of it.

use std::sync::Arc;

use super::call::{Ask, CallId, Happened};
use super::devices::List;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Start(CallId, Arc<Ask>),
    Stop(CallId),
}

/// How the call that is wanted fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Connecting,
    Open,
    Failed(String),
}

#[derive(Debug)]
struct Running {
    id: CallId,
    ask: Arc<Ask>,
    progress: Progress,
    /// Whether it has failed since it was last open.
    failed_before: bool,
    listed: bool,
}

/// Numbers calls.
#[derive(Debug, Default)]
pub(super) struct CallIds(u64);

impl CallIds {
    fn next(&mut self) -> CallId {
        self.0 += 1;
        CallId(self.0)
    }
}

/// The calls of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Line {
    current: Option<Running>,
    next: Option<Running>,
    /// What was asked for the newest list.
    proven: Option<Arc<Ask>>,
    list: Option<List>,
}

impl Line {
    /// Its newest list.
    pub fn list(&self) -> Option<&List> {
        self.list.as_ref()
    }

    /// Whether a call of it is known.
    pub fn knows(&self, id: CallId) -> bool {
        let is = |running: &Option<Running>| running.as_ref().is_some_and(|one| one.id == id);
        is(&self.current) || is(&self.next)
    }

    /// How what is wanted now fares.
    pub fn progress(&self) -> Progress {
        let wanted = self.next.as_ref().or(self.current.as_ref());
        wanted.map_or(Progress::Connecting, |running| running.progress.clone())
    }

    /// What to do so that this is asked.
    pub fn want(&mut self, ask: &Arc<Ask>, ids: &mut CallIds) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.next.as_ref().is_some_and(|next| next.ask == *ask) {
            return commands;
        }
        if self.current.as_ref().is_some_and(|now| now.ask == *ask) {
            stop(&mut self.next, &mut commands);
            return commands;
        }
        stop(&mut self.next, &mut commands);
        let replaces = |now: &Running| !now.listed || now.ask.details == ask.details;
        if self.current.as_ref().is_some_and(replaces) {
            stop(&mut self.current, &mut commands);
        }
        let started = start(ask, ids, &mut commands);
        if self.current.is_none() && self.proven.is_none() {
            self.current = Some(started);
        } else {
            self.next = Some(started);
        }
        commands
    }

    /// Ends all calls; the list stays.
    pub fn stop(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        stop(&mut self.current, &mut commands);
        stop(&mut self.next, &mut commands);
        commands
    }

    /// Takes note, and says what to do and whether a stream has begun.
    pub fn happened(
        &mut self,
        id: CallId,
        what: Happened,
        ids: &mut CallIds,
    ) -> (Vec<Command>, bool) {
        let mut commands = Vec::new();
        let Some(running) = self.find(id) else {
            return (commands, false);
        };
        let mut begun = false;
        match what {
            Happened::Opened => running.progress = Progress::Open,
            Happened::List { list, first } => {
                running.listed = true;
                running.failed_before = false;
                running.progress = Progress::Open;
                self.proven = Some(Arc::clone(&running.ask));
                begun = first;
                self.list = Some(list);
                self.promote(id, &mut commands);
            }
            Happened::Failed {
                refused,
                answered,
                reason,
            } => {
                running.fail(refused, reason);
                if answered {
                    self.fall_back(id, ids, &mut commands);
                }
            }
        }
        (commands, begun)
    }

    fn find(&mut self, id: CallId) -> Option<&mut Running> {
        let both = self.current.iter_mut().chain(self.next.iter_mut());
        both.into_iter().find(|running| running.id == id)
    }

    /// What is wanted now has sent a list: whatever was before it has done its duty.
    fn promote(&mut self, id: CallId, commands: &mut Vec<Command>) {
        if self.next.as_ref().is_some_and(|next| next.id == id) {
            stop(&mut self.current, commands);
            self.current = self.next.take();
        }
    }

    /// The handler fails with the new properties: what was asked before is asked again, beside them.
    fn fall_back(&mut self, id: CallId, ids: &mut CallIds, commands: &mut Vec<Command>) {
        let failed = self.next.as_ref().filter(|next| next.id == id);
        let Some(before) = self.proven.as_ref().filter(|_| self.current.is_none()) else {
            return;
        };
        if failed.is_some_and(|next| next.ask != *before) {
            self.current = Some(start(before, ids, commands));
        }
    }
}

impl Running {
    /// A stream that was open is expected to be open again in a moment; that alone is no news.
    fn fail(&mut self, refused: bool, reason: String) {
        let blip = self.progress == Progress::Open && !self.failed_before && !refused;
        self.failed_before = true;
        self.progress = if blip {
            Progress::Connecting
        } else {
            Progress::Failed(reason)
        };
    }
}

fn start(ask: &Arc<Ask>, ids: &mut CallIds, commands: &mut Vec<Command>) -> Running {
    let id = ids.next();
    commands.push(Command::Start(id, Arc::clone(ask)));
    Running {
        id,
        ask: Arc::clone(ask),
        progress: Progress::Connecting,
        failed_before: false,
        listed: false,
    }
}

fn stop(running: &mut Option<Running>, commands: &mut Vec<Command>) {
    if let Some(running) = running.take() {
        commands.push(Command::Stop(running.id));
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
