//! Tests of the rules: a good history breaks none, and each kind of bad one is found.

use std::collections::HashMap;

use super::world::World;
use super::*;
use crate::stress::journal::{Event, Mode, Why};
use crate::stress::object::Line;

fn section(attempt: &mut Attempt) -> &mut Section {
    match &mut attempt.outcome {
        Outcome::Entered(section) => section,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_working_lock_causes_no_violation() {
    for seed in 0..200 {
        let world = World::after(seed, 200);
        assert_eq!(world.kinds(), [], "seed {seed}");
    }
}

#[test]
fn overlapping_sections_are_found_even_with_others_between() {
    for (one, two) in [
        (Mode::Exclusive, Mode::Exclusive),
        (Mode::Exclusive, Mode::Shared),
        (Mode::Shared, Mode::Exclusive),
    ] {
        let mut world = World::after(1, 100);
        let enter = world.later();
        let count = world.count();
        world.hold(Mode::Shared, enter, [count, count]);
        world.last_of(Mode::Shared).mode = one;
        let over = world.time + 1_000_000;
        section(world.last_of(one)).end = End::Left {
            at: over,
            counted: None,
        };
        let later = world.later();
        world.hold(two, later, [count, count]);
        world.must_show(Breach::Overlap);
    }
}

#[test]
fn a_killed_holder_excludes_others_until_it_was_killed() {
    let mut world = World::new(1);
    world.cut_off();
    let killed = world.time;
    world.add();
    assert_eq!(world.kinds(), []);
    let section = section(world.last_of(Mode::Exclusive));
    section.enter = killed - 1;
    world.must_show(Breach::Overlap);
}

#[test]
fn a_torn_missing_repeated_or_misplaced_line_is_found() {
    let clean = || {
        let mut world = World::after(2, 100);
        world.add();
        world.add();
        world
    };
    let mut world = clean();
    let last = world.remains.lines.len() - 1;
    world.remains.lines[last] = Line::Torn(format!("<p{}.1 {} ", world.number % 5, world.number));
    world.must_show(Breach::Torn);

    let mut world = clean();
    world.remains.lines.pop();
    world.must_show(Breach::Missing);

    let mut world = clean();
    let again = world.remains.lines[last].clone();
    world.remains.lines.push(again);
    world.must_show(Breach::Stray);

    let mut world = clean();
    world.remains.lines.swap(last, last - 1);
    world.must_show(Breach::OutOfOrder);
}

#[test]
fn a_line_written_outside_its_section_is_found() {
    let mut world = World::after(3, 100);
    world.add();
    let left = world.time;
    let Some(Line::Whole { at, .. }) = world.remains.lines.last_mut() else {
        panic!("a line");
    };
    *at = left + 1;
    world.must_show(Breach::Outside);
}

#[test]
fn a_lost_count_is_found_on_the_way_and_at_the_end() {
    let mut world = World::after(4, 100);
    world.add();
    let count = world.count();
    world.remains.count = Some(count - 1);
    world.must_show(Breach::Total);
    world.add();
    world.must_show(Breach::Count);

    let mut world = World::after(4, 100);
    let (enter, count) = (world.later(), world.count());
    world.hold(Mode::Shared, enter, [count, count + 1]);
    world.must_show(Breach::Count);
}

fn ask() -> Event {
    Event::Ask {
        number: 1,
        lock: "a".into(),
        mode: Mode::Exclusive,
        limit: None,
        at: 1,
    }
}

#[test]
fn a_lock_is_lost_only_by_a_break_and_stays_lost() {
    let ask = ask();
    let lost = Event::Lost { at: 9 };
    let leave = Event::Leave {
        counted: None,
        at: 10,
    };
    let entered = [ask, Event::Enter { at: 2 }];
    let history = |ends: &[Event], from| {
        let mut history = History::default();
        history
            .add("p.1", &[&entered, ends].concat(), None)
            .expect("the journal is in order");
        let lock = "a".into();
        history
            .add(
                "q.1",
                &[Event::Broke {
                    lock,
                    from,
                    at: from + 1,
                }],
                None,
            )
            .expect("the journal is in order");
        let hold = |at| Section {
            enter: at,
            end: End::CutOff { at },
        };
        history.attempts.push(Attempt {
            worker: "r.1".into(),
            outcome: Outcome::Entered(hold(6)),
            ..history.attempts[0].clone()
        });
        let kinds = history.check(&HashMap::new()).into_iter();
        kinds.map(|violation| violation.kind).collect::<Vec<_>>()
    };
    assert_eq!(history(std::slice::from_ref(&lost), 5), []);
    assert_eq!(
        history(std::slice::from_ref(&lost), 1),
        [],
        "before it was entered"
    );
    assert_eq!(history(std::slice::from_ref(&lost), 7), [Breach::Overlap]);
    assert_eq!(
        history(std::slice::from_ref(&lost), 20),
        [Breach::Lost, Breach::Overlap]
    );
    assert_eq!(history(&[lost, leave], 5), [Breach::AfterLost]);
}

#[test]
fn an_early_or_unexpected_answer_is_found() {
    for (limit, why) in [
        (Some(100), Why::Timeout),
        (None, Why::Timeout),
        (Some(0), Why::Timeout),
        (Some(100), Why::WouldBlock),
    ] {
        let mut world = World::after(5, 10);
        let asked = world.time;
        let attempt = world.attempt(Mode::Shared, Outcome::GaveUp(why, asked + 99));
        (attempt.asked, attempt.limit) = (asked, limit);
        world.must_show(Breach::Timeout);
    }
    let mut world = World::after(5, 10);
    let failed = Outcome::Failed("broken".into(), world.time);
    world.attempt(Mode::Shared, failed);
    world.must_show(Breach::Failed);
}

#[test]
fn a_worker_that_ends_without_being_killed_is_found() {
    let ask = ask();
    let kinds = |killed| {
        let mut history = History::default();
        history
            .add("p.1", std::slice::from_ref(&ask), killed)
            .expect("the journal is in order");
        let kinds = history.check(&HashMap::new()).into_iter();
        kinds.map(|violation| violation.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(None), [Breach::Unfinished]);
    assert_eq!(kinds(Some(5)), []);
}

#[test]
fn an_idle_period_lasts_while_the_lock_is_free_and_awaited() {
    let mut world = World::new(6);
    let mut hold = |worker: &str, asked, enter, end| {
        let attempt = world.attempt(Mode::Exclusive, Outcome::Entered(Section { enter, end }));
        (attempt.worker, attempt.asked) = (worker.into(), asked);
    };
    let left = |at| End::Left { at, counted: None };
    hold("p", 10, 11, left(20));
    hold("q", 15, 24, End::CutOff { at: 30 });
    hold("r", 12, 37, left(40));
    hold("s", 50, 51, left(60));
    let turns = world.history.idle_periods();
    let idle: Vec<_> = turns.iter().map(|turn| turn.idle.as_nanos()).collect();
    assert_eq!(idle, [1, 4, 7, 1]);
    let killed: Vec<_> = turns
        .iter()
        .map(|turn| turn.after_kill_of.as_deref())
        .collect();
    assert_eq!(killed, [None, None, Some("q"), None]);
}
