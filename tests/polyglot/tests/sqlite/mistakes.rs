//! Mistakes in the copy of the wal-index, made on purpose: each of them has to show.

use super::kills::Race;
use super::*;
use polyglot::sqlite::VFS;
use std::time::{Duration, Instant};

/// A change of the source.
struct Edit {
    what: &'static str,
    right: &'static str,
    wrong: &'static str,
}

const NO_PULL: Edit = Edit {
    what: "no pull",
    right: "static int pull(wal_index *index) {\n",
    wrong: "static int pull(wal_index *index) {\n    if (index) return SQLITE_OK;\n",
};

const WHOLE_REGIONS: Edit = Edit {
    what: "a push of whole regions",
    right: "if (!is_due(r, from, which)) continue;\n        int to = from;\n        \
            while (to < end && is_due(r, to, which)) to++;",
    wrong: "(void)is_due;\n        (void)which;\n        int to = end;",
};

const NO_SWITCH: Edit = Edit {
    what: "no dead man's switch",
    right: "    error = locket_ranges_lock(&index->ranges, LOCKET_SHARED, dead_mans_switch, 0);\n",
    wrong: "    error = locket_ranges_unlock(&index->ranges, dead_mans_switch);\n",
};

/// What a process exits with that kills itself between two writes of a fence.
const DEAD: i32 = 9;

/// No mistake, but the worst moments to be killed.
const DEATHS: Edit = Edit {
    what: "death before a write",
    right: "        size_t size = (size_t)(to - from) * 4;\n",
    wrong: "        size_t size = (size_t)(to - from) * 4;\n        \
            static unsigned dice;\n        \
            if (dice == 0) dice = (unsigned)getpid() * 2654435761u;\n        \
            dice = dice * 1664525u + 1013904223u;\n        \
            if (dice >> 27 == 0) _exit(9);\n",
};

const HEADER_FIRST: Edit = Edit {
    what: "the header first",
    right: "    int result = push_words(index, 0, 0, SUM, ANY);\n",
    wrong: "    int result = push_words(index, 0, 0, 2 * HEADER, ANY);\n",
};

/// Builds the program that uses the VFS without a component from a changed copy of the VFS.
fn build_with(programs: &Programs, edits: &[&Edit]) -> Result {
    let vfs = root().join("guest/sqlite");
    let copy = tempfile::tempdir()?;
    for file in VFS.iter().chain(&["internal.h", "locket_sqlite.h"]) {
        fs::copy(vfs.join(file), copy.path().join(file))?;
    }
    let index = copy.path().join("wal_index.c");
    let mut source = fs::read_to_string(&index)?;
    for Edit { what, right, wrong } in edits {
        assert!(source.contains(right), "{what}: the source has changed");
        source = source.replace(right, wrong);
    }
    fs::write(&index, source)?;
    let program = programs.folder.path().join("count");
    build(Target::Native, copy.path(), &program)?;
    Ok(())
}

/// How programs end that use a database together.
#[derive(Debug, PartialEq)]
enum End {
    Right,
    Wrong,
    /// One of them neither succeeds nor fails.
    Stuck,
}

/// Starts some programs with the VFS, and some on SQLite's own.
fn end_of(programs: &Programs) -> Result<End> {
    programs.init("wal")?;
    let mut children = Vec::new();
    for (number, how) in ["native", "unix", "native", "unix"].iter().enumerate() {
        children.push(programs.start(how, &number.to_string(), "150")?);
    }
    children.push(programs.start("native", "read", "1")?);
    children.push(programs.start("unix", "read", "1")?);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut end = End::Right;
    for mut child in children {
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if end != End::Right || Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                break None;
            }
            pause();
        };
        end = match (end, status) {
            (End::Right, None) => End::Stuck,
            (End::Right, Some(status)) if !status.success() => End::Wrong,
            (end, _) => end,
        };
    }
    let sql = "pragma integrity_check; select n, (select count(*) from log) from counter";
    if end == End::Right && !programs.ask(sql).is_ok_and(|found| found == "ok\n600|600") {
        end = End::Wrong;
    }
    Ok(end)
}

#[expect(clippy::disallowed_methods, reason = "a child has no other notice")]
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

#[test]
fn mistakes_in_the_copy_of_the_index_show() -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    assert_eq!(end_of(&programs)?, End::Right, "without a mistake");
    for mistake in [NO_PULL, WHOLE_REGIONS] {
        build_with(&programs, &[&mistake])?;
        let shows = |_| {
            let end = end_of(&programs).expect("it can be tried");
            println!("{}: {end:?}", mistake.what);
            end != End::Right
        };
        assert!((0..5).any(shows), "nothing shows: {}", mistake.what);
    }
    Ok(())
}

/// Whether a reader with the VFS is seen to use the index, while it does.
fn is_seen(programs: &Programs) -> Result<bool> {
    programs.init("wal")?;
    let mut reader = programs.start("native", "read", "1")?;
    let index = programs.database().with_file_name("db-shm");
    let (mut was_there, mut is_seen) = (false, false);
    let status = loop {
        if let Some(status) = reader.try_wait()? {
            break status;
        }
        if index.exists() {
            was_there = true;
            is_seen |= use_of_the_index(programs)? == Some(Mode::Shared);
        }
        pause();
    };
    assert!(status.success() && was_there, "the reader used no index");
    Ok(is_seen)
}

#[test]
fn a_missing_dead_mans_switch_shows() -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    assert!(is_seen(&programs)?);
    build_with(&programs, &[&NO_SWITCH])?;
    assert!(!is_seen(&programs)?);
    Ok(())
}

/// Lets programs with the VFS die between the writes of their fences, beside others, until that is over:
/// after so many deaths.
fn deaths(
    programs: &Programs,
    is_over: impl Fn(u32) -> bool,
) -> Result<std::result::Result<u64, String>> {
    // None that waits: it would begin to write with the lock of the writer, and keep that if the header is
    // invalid, while one that makes a checkpoint waits for it, for 10 s.
    let writers = [(0, "native"), (2, "unix"), (4, "native")];
    let mut race = Race::start(programs, "wal", &writers)?;
    let mut alive = true;
    while alive && !is_over(race.kills) {
        alive = race.replace_the_dead(DEAD)?;
        pause();
    }
    let kills = race.kills;
    let found = race.end()?;
    println!("{kills} deaths: {found:?}");
    Ok(if alive {
        found
    } else {
        Err("a writer has failed".to_owned())
    })
}

#[test]
fn death_between_two_writes_of_a_fence_loses_nothing() -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    let seconds = std::env::var("SQLITE_SECONDS").map_or(6, |s| s.parse().unwrap());
    build_with(&programs, &[&DEATHS])?;
    let end = Instant::now() + Duration::from_secs(seconds);
    deaths(&programs, |_| Instant::now() >= end)?.expect("nothing is missing");
    Ok(())
}

#[test]
fn a_header_that_is_written_first_shows() -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    build_with(&programs, &[&DEATHS, &HEADER_FIRST])?;
    // A few of a thousand deaths show it, however long they take.
    for _ in 0..20 {
        // The mistake may also stop all of them.
        let end = Instant::now() + Duration::from_secs(60);
        if deaths(&programs, |deaths| deaths >= 250 || Instant::now() >= end)?.is_err() {
            return Ok(());
        }
    }
    panic!("nothing shows: {}", HEADER_FIRST.what);
}
