//! Timelines of samples that are made up.

use locket::Protocol;

use super::*;
use crate::status::report::Mode;

pub(in crate::trace) fn process(pid: i32, started: u64) -> Process {
    Process {
        pid: Some(pid),
        elsewhere: false,
        started: Some(started),
        command: Some(format!("command {pid}")),
    }
}

pub(in crate::trace) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn doing(letter: char) -> Doing {
    let (state, mode) = match letter {
        'X' => (State::Held, Mode::Exclusive),
        'S' => (State::Held, Mode::Shared),
        'w' => (State::Waits, Mode::Exclusive),
        _ => unreachable!("no such letter"),
    };
    let protocol = Protocol::Flock;
    Doing {
        state,
        mode,
        protocol,
    }
}

/// A path that was looked at each 10 ms. There is a line for each process, and in it a letter for
/// each look: X and S hold it, w waits, and `?` is no look, for all.
pub(in crate::trace) fn timeline(path: &str, lines: &[(Process, &str)]) -> Timeline {
    let mut timeline = Timeline::new(&[path.into()], ms(10));
    let length = lines.iter().map(|(_, line)| line.len()).max().unwrap_or(0);
    for i in 0..length {
        let letters = lines.iter().map(|(process, line)| {
            let letter = line.chars().nth(i).unwrap_or(' ');
            (process.clone(), letter)
        });
        if letters.clone().any(|(_, letter)| letter == '?') {
            continue;
        }
        let seen = letters.filter(|(_, letter)| *letter != ' ');
        let seen = seen.map(|(process, letter)| Seen {
            process,
            doing: doing(letter),
        });
        timeline.tracks[0].add(ms(10 * i as u64), seen.collect());
    }
    timeline.end(ms(10 * length as u64));
    timeline
}

/// The spans of each lane: their ends in milliseconds, and the letter.
fn spans(timeline: &Timeline) -> Vec<Vec<(u128, u128, char)>> {
    let letter = |doing: Doing| match (doing.state, doing.mode) {
        (State::Held, Mode::Exclusive) => 'X',
        (State::Held, Mode::Shared) => 'S',
        (State::Waits, _) => 'w',
    };
    let lanes = timeline.tracks[0].lanes.iter();
    let spans = |lane: &Lane| {
        let spans = lane.spans.iter();
        spans
            .map(|span| {
                (
                    span.from.as_millis(),
                    span.to.as_millis(),
                    letter(span.doing),
                )
            })
            .collect()
    };
    lanes.map(spans).collect()
}

#[test]
fn two_processes_take_turns() {
    let lines = [(process(1, 0), "XX  wX"), (process(2, 0), "wwXXX ")];
    let timeline = timeline("lock", &lines);
    let expected = [
        vec![(0, 20, 'X'), (40, 50, 'w'), (50, 60, 'X')],
        vec![(0, 20, 'w'), (20, 50, 'X')],
    ];
    assert_eq!(spans(&timeline), expected);
    let totals = timeline.tracks[0].lanes[0].totals();
    let held = Total {
        count: 2,
        time: ms(30),
        longest: ms(20),
    };
    let waited = Total {
        count: 1,
        time: ms(10),
        longest: ms(10),
    };
    assert_eq!(totals, Totals { held, waited });
}

#[test]
fn readers_share_it_and_a_change_of_mode_is_one_hold() {
    let lines = [(process(1, 0), "SSXX"), (process(2, 0), "SS  ")];
    let timeline = timeline("lock", &lines);
    let expected = [vec![(0, 20, 'S'), (20, 40, 'X')], vec![(0, 20, 'S')]];
    assert_eq!(spans(&timeline), expected);
    let held = timeline.tracks[0].lanes[0].totals().held;
    assert_eq!((held.count, held.longest), (1, ms(40)));
}

#[test]
fn a_number_that_is_reused_is_another_process() {
    let lines = [(process(1, 100), "XX  "), (process(1, 200), "  XX")];
    let expected = [vec![(0, 20, 'X')], vec![(20, 40, 'X')]];
    assert_eq!(spans(&timeline("lock", &lines)), expected);
}

#[test]
fn a_waiter_that_gives_up_has_waited() {
    let lines = [(process(1, 0), "XXXX"), (process(2, 0), " ww ")];
    let timeline = timeline("lock", &lines);
    assert_eq!(spans(&timeline)[1], [(10, 30, 'w')]);
    let totals = timeline.tracks[0].lanes[1].totals();
    assert_eq!((totals.held.count, totals.waited.count), (0, 1));
}

#[test]
fn what_was_not_looked_at_is_a_gap_in_which_nothing_begins_or_ends() {
    let lines = [(process(1, 0), "XX????????????XX")];
    let timeline = timeline("lock", &lines);
    assert_eq!(timeline.tracks[0].gaps, [(ms(10), ms(140))]);
    // It had it before and after.
    assert_eq!(spans(&timeline)[0], [(0, 160, 'X')]);
    let looks = timeline.tracks[0].looks;
    assert_eq!((looks.count, looks.late), (4, 1));
    assert_eq!(looks.longest_pause, ms(130));
}

#[test]
fn the_end_is_no_look() {
    let timeline = timeline("lock", &[(process(1, 0), "XX????")]);
    let looks = timeline.tracks[0].looks;
    assert_eq!((looks.count, looks.late), (2, 0));
    assert_eq!(looks.longest_pause, ms(50));
}

#[test]
fn an_unknown_holder_and_an_unknown_waiter_have_a_lane_each() {
    let unknown = Process::default;
    let lines = [(unknown(), "XXXX  "), (unknown(), " wwww ")];
    let expected = [vec![(0, 40, 'X')], vec![(10, 50, 'w')]];
    assert_eq!(spans(&timeline("lock", &lines)), expected);
}

#[test]
fn a_hold_that_ends_in_a_gap_ends_when_it_was_last_seen() {
    let lines = [(process(1, 0), "XX????????????  ")];
    assert_eq!(spans(&timeline("lock", &lines)), [[(0, 10, 'X')]]);
}

#[test]
fn each_change_is_an_event_and_what_ends_comes_first() {
    let paths = ["a".into(), "b".into()];
    let mut timeline = Timeline::new(&paths, ms(10));
    let seen = |pid, letter| Seen {
        process: process(pid, 0),
        doing: doing(letter),
    };
    let mut events = |track: usize, at, all: Vec<Seen>| {
        let events = timeline.tracks[track].add(ms(at), all);
        let event = |event: Event<'_>| {
            let path = event.path.to_str().unwrap().to_owned();
            (path, event.process.pid.unwrap(), event.doing)
        };
        events.into_iter().map(event).collect::<Vec<_>>()
    };
    let (held, waits) = (doing('X'), doing('w'));
    let a = || "a".to_owned();
    let first = events(0, 0, vec![seen(2, 'X'), seen(1, 'w')]);
    assert_eq!(first, [(a(), 2, Some(held)), (a(), 1, Some(waits))]);
    assert_eq!(events(0, 10, vec![seen(2, 'X'), seen(1, 'w')]), []);
    let other = events(1, 10, vec![seen(2, 'X')]);
    assert_eq!(other, [("b".to_owned(), 2, Some(held))]);
    let turn = events(0, 20, vec![seen(1, 'X')]);
    assert_eq!(turn, [(a(), 2, None), (a(), 1, Some(held))]);
    assert_eq!(events(0, 30, vec![]), [(a(), 1, None)]);
    // One half of a native lock is seen before the other.
    assert_eq!(events(0, 40, vec![seen(1, 'X')]).len(), 1);
    let mut whole = seen(1, 'X');
    whole.doing.protocol = Protocol::Native;
    assert_eq!(events(0, 50, vec![whole]).len(), 1);
    timeline.end(ms(60));
    assert_eq!(timeline.tracks[0].lanes[1].spans.last().unwrap().to, ms(60));
    assert_eq!(timeline.tracks[0].lanes[1].totals().held.count, 2);
}
