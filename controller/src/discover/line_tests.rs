use super::*;
use crate::discover::devices::{RawResponse, Reader};
use crate::references::Resolved;

fn ask(details: &str) -> Arc<Ask> {
    with(details, "")
}

fn with(details: &str, password: &str) -> Arc<Ask> {
    Arc::new(Ask {
        details: details.into(),
        properties: Resolved::of(&[("MQTT_PASSWORD", password)]),
    })
}

fn list(first: bool) -> Happened {
    let list = Reader::default().read(RawResponse::default());
    Happened::List { list, first }
}

fn refused() -> Happened {
    Happened::Failed {
        refused: true,
        answered: true,
        reason: "wrong".to_owned(),
    }
}

/// The handler has answered with another error.
fn failed() -> Happened {
    Happened::Failed {
        refused: false,
        answered: true,
        reason: "broken".to_owned(),
    }
}

fn ended() -> Happened {
    Happened::Failed {
        refused: false,
        answered: false,
        reason: "ended".to_owned(),
    }
}

struct Bench {
    line: Line,
    ids: CallIds,
}

/// A line whose call 1 has sent a list.
fn listed(asked: &Arc<Ask>) -> Bench {
    let mut bench = Bench {
        line: Line::default(),
        ids: CallIds::default(),
    };
    let commands = bench.want(asked);
    assert_eq!(commands, [Command::Start(CallId(1), Arc::clone(asked))]);
    assert_eq!(bench.line.progress(), Progress::Connecting);
    assert_eq!(bench.happened(1, Happened::Opened), (vec![], false));
    assert_eq!(bench.happened(1, list(true)), (vec![], true));
    assert_eq!(bench.line.progress(), Progress::Open);
    bench
}

impl Bench {
    fn want(&mut self, ask: &Arc<Ask>) -> Vec<Command> {
        self.line.want(ask, &mut self.ids)
    }

    fn happened(&mut self, id: u64, what: Happened) -> (Vec<Command>, bool) {
        self.line.happened(CallId(id), what, &mut self.ids)
    }
}

#[test]
fn what_is_asked_already_is_not_touched() {
    let mut bench = listed(&ask("a"));
    assert_eq!(bench.want(&ask("a")), []);
    assert_eq!(bench.happened(1, list(false)), (vec![], false));
}

#[test]
fn other_details_are_asked_beside_the_stream_that_runs_until_they_are_listed() {
    let mut bench = listed(&ask("a"));
    let start = Command::Start(CallId(2), ask("b"));
    assert_eq!(bench.want(&ask("b")), [start]);
    assert_eq!(bench.want(&ask("b")), []);
    assert_eq!(bench.line.progress(), Progress::Connecting);
    assert_eq!(bench.happened(1, list(false)), (vec![], false));
    assert_eq!(bench.happened(2, Happened::Opened), (vec![], false));
    let (commands, begun) = bench.happened(2, list(true));
    assert_eq!((commands, begun), (vec![Command::Stop(CallId(1))], true));
    assert!(!bench.line.knows(CallId(1)));
}

#[test]
fn refused_details_leave_the_old_stream_alone_and_are_shown() {
    let mut bench = listed(&ask("a"));
    bench.want(&ask("b"));
    assert_eq!(bench.happened(2, refused()), (vec![], false));
    assert_eq!(bench.line.progress(), Progress::Failed("wrong".to_owned()));
    assert!(bench.line.knows(CallId(1)) && bench.line.knows(CallId(2)));
    // The edit is taken back.
    assert_eq!(bench.want(&ask("a")), [Command::Stop(CallId(2))]);
    assert_eq!(bench.line.progress(), Progress::Open);
}

#[test]
fn other_properties_take_the_place_of_the_old_ones_at_once() {
    let mut bench = listed(&with("a", "old"));
    let expected = [
        Command::Stop(CallId(1)),
        Command::Start(CallId(2), with("a", "new")),
    ];
    assert_eq!(bench.want(&with("a", "new")), expected);
    assert!(bench.line.list().is_some());
    assert_eq!(bench.happened(2, list(true)), (vec![], true));
    assert_eq!(bench.want(&with("a", "new")), []);
}

#[test]
fn handler_that_fails_with_other_properties_is_asked_with_the_old_ones_again() {
    let mut bench = listed(&with("a", "old"));
    bench.want(&with("a", "new"));
    assert_eq!(bench.happened(2, ended()), (vec![], false));
    let (commands, _) = bench.happened(2, failed());
    assert_eq!(commands, [Command::Start(CallId(3), with("a", "old"))]);
}

#[test]
fn refused_properties_bring_the_old_ones_back_beside_them() {
    let mut bench = listed(&with("a", "old"));
    bench.want(&with("a", "new"));
    let (commands, _) = bench.happened(2, refused());
    let again = Command::Start(CallId(3), with("a", "old"));
    assert_eq!(commands, [again]);
    assert_eq!(bench.happened(2, refused()), (vec![], false));
    assert_eq!(bench.line.progress(), Progress::Failed("wrong".to_owned()));
    // Mended: the third password is accepted.
    let expected = [
        Command::Stop(CallId(2)),
        Command::Stop(CallId(3)),
        Command::Start(CallId(4), with("a", "third")),
    ];
    assert_eq!(bench.want(&with("a", "third")), expected);
    assert_eq!(bench.happened(4, list(true)), (vec![], true));
}

#[test]
fn stream_that_breaks_is_no_failure_unless_it_stays_broken() {
    let mut bench = listed(&ask("a"));
    bench.happened(1, ended());
    assert_eq!(bench.line.progress(), Progress::Connecting);
    assert!(bench.line.list().is_some());
    bench.happened(1, ended());
    assert_eq!(bench.line.progress(), Progress::Failed("ended".to_owned()));
    bench.happened(1, Happened::Opened);
    let (_, begun) = bench.happened(1, list(true));
    assert!(begun);
}

#[test]
fn a_call_that_was_never_answered_is_replaced() {
    let mut bench = Bench {
        line: Line::default(),
        ids: CallIds::default(),
    };
    bench.want(&ask("a"));
    let expected = [
        Command::Stop(CallId(1)),
        Command::Start(CallId(2), ask("b")),
    ];
    assert_eq!(bench.want(&ask("b")), expected);
    assert_eq!(bench.happened(1, list(true)), (vec![], false));
    assert!(bench.line.list().is_none());
}

#[test]
fn the_list_outlives_its_calls() {
    let mut bench = listed(&ask("a"));
    assert_eq!(bench.line.stop(), [Command::Stop(CallId(1))]);
    assert!(bench.line.list().is_some());
}
