//! fcntl(), lockf() and flock() in programs for any Unix: they do in a component what they do in a native
//! program, and the two exclude each other.

use locket_tests::harness::QUIESCENT;
use locket_tests::process::{Dir, Process};
use polyglot::PROVIDER;
use polyglot::program::Program;
use std::process::{Child, Command, Stdio};
use std::{fs, iter};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const LOCKS: &str = "tests/polyglot/guests/c/locks.c";

/// A line of a script: which process, its command, and the answer.
struct Line {
    process: usize,
    command: &'static str,
    answer: &'static str,
}

/// What a process answers that waits.
const NOTHING: &str = "…";

/// The cases of a script, with their titles.
fn cases(script: &'static str) -> impl Iterator<Item = (&'static str, Vec<Line>)> {
    let (_, cases) = script.split_once("\n= ").expect("a script has cases");
    cases.split("\n= ").map(|case| {
        let (title, lines) = case.split_once('\n').expect("a case has lines");
        let lines = lines.lines().filter(|line| !line.is_empty());
        (title, lines.map(line).collect())
    })
}

fn line(line: &'static str) -> Line {
    let (process, rest) = line.split_at(1);
    let (command, answer) = rest.rsplit_once("  ").expect("a line has an answer");
    Line {
        process: ["a", "b"]
            .iter()
            .position(|name| *name == process)
            .expect("a or b"),
        command: command.trim(),
        answer: answer.trim(),
    }
}

/// Has two processes go through a script.
#[track_caller]
fn play(script: &'static str, start: impl Fn(&Dir) -> [Command; 2]) {
    for (title, lines) in cases(script) {
        let dir = Dir::new();
        let mut processes = start(&dir).map(|mut command| Process::spawn(&mut command));
        for Line {
            process,
            command,
            answer,
        } in lines
        {
            let process = &mut processes[process];
            if !command.is_empty() {
                process.send(command);
            }
            let found = match answer {
                NOTHING => process
                    .answer_within(QUIESCENT)
                    .unwrap_or_else(|| NOTHING.into()),
                _ => process.answer(),
            };
            assert_eq!(found, answer, "{title}: {command}");
        }
    }
}

fn every_pair(script: &'static str, pair: [bool; 2]) -> Result {
    let Some(program) = Program::build(LOCKS, &[])? else {
        return Ok(());
    };
    play(script, |dir| {
        pair.map(|is_native| {
            let [guest, native] = program.both(dir.path(), "");
            if is_native { native } else { guest }
        })
    });
    Ok(())
}

const SAME: &str = include_str!("../guests/c/locks.txt");

#[test]
fn the_script_tells_what_native_programs_do() -> Result {
    every_pair(SAME, [true, true])
}

#[test]
fn components_do_the_same_among_themselves() -> Result {
    every_pair(SAME, [false, false])
}

#[test]
fn a_component_does_the_same_beside_a_native_program() -> Result {
    every_pair(SAME, [false, true])
}

#[test]
fn a_native_program_finds_the_same_beside_a_component() -> Result {
    every_pair(SAME, [true, false])
}

/// What only components do.
const DIFFERENT: &str = "
= A wait for oneself could never end
a open f f rw                   ok
a open g f rw                   ok
a oset f w set 0 10             ok
a osetw g w set 5 1             EDEADLK
a setw g r set 5 1              EDEADLK
a osetw g w set 10 1            ok
a flock f ex                    ok
a flock g ex                    EDEADLK

= Only files are locked
a mkdir d                       ok
a open d d r                    ok
a set d r set 0 1               EINVAL
a get d w set 0 1               EINVAL
a flock d ex                    EOPNOTSUPP
a set 0 r set 0 1               EINVAL
a set 3 r set 0 1               EINVAL
a flock 0 ex                    EOPNOTSUPP

= A file is found by its path before its first lock
a open f f rw                   ok
a rename f g                    ok
a set f w set 0 1               ESTALE
a open n f rw                   ok
a set f w set 0 1               ESTALE
a set n w set 0 1               ok
a flock n ex                    ok
a flock n ex                    ok
a rename f g                    ok
a flock n ex                    ESTALE

= There are limits
a open f f rw                   ok
b open f f rw                   ok
a many f 1000000                1024 ENOLCK
b get f w set 2046 0            w 2046 1
a set f u set 2 0               ok
b get f w set 1 0               free
a set f r set 9223372036854775807 1    ok
";

#[test]
fn what_differs_is_an_error_and_no_wait() -> Result {
    every_pair(DIFFERENT, [false, false])
}

/// The loop in which programs wait ends, too, since it repeats only what a signal interrupted.
#[test]
fn a_wait_that_the_host_ends_is_not_interrupted() -> Result {
    let Some(program) = Program::build(LOCKS, &[])? else {
        return Ok(());
    };
    let script = "
= The host lets nothing wait for longer than a second
a open f f rw                   ok
b open f f rw                   ok
a set f w set 0 0               ok
b setw f w set 0 0              ETIMEDOUT
b osetw f w set 0 0             ETIMEDOUT
b lockf f lock 0                ETIMEDOUT
a flock f ex                    ok
b flock f ex                    ETIMEDOUT
";
    play(script, |dir| {
        let [_, native] = program.both(dir.path(), "");
        [native, program.guest(dir.path(), "", &["--max-wait", "1"])]
    });
    Ok(())
}

/// A second lock in the same mode does nothing, but says whether the first one still holds.
#[test]
fn a_lock_that_the_host_has_revoked_is_not_held() -> Result {
    let Some(program) = Program::build(LOCKS, &[])? else {
        return Ok(());
    };
    let script = "
= The host lets nothing be held for longer than a second
a open f f rw                   ok
b open f f rw                   ok
a flock f ex                    ok
b flock f ex                    ok
a flock f ex                    ENOLCK
a flock f exnb                  EAGAIN
b flock f un                    ok
a flock f ex                    ok
";
    play(script, |dir| {
        let [_, native] = program.both(dir.path(), "");
        [program.guest(dir.path(), "", &["--max-hold", "1"]), native]
    });
    Ok(())
}

#[test]
fn on_a_host_without_locks_there_are_none() -> Result {
    let Some(program) = Program::build(LOCKS, &[])? else {
        return Ok(());
    };
    if !PROVIDER.is_ready() {
        return Ok(());
    }
    program.plug_provider()?;
    let script = "
= The rest works
a open f f rw                   ok
a size f 10                     ok
a flags f                       rw
a set f w set 0 1               ENOLCK
a get f w set 0 1               ENOLCK
a lockf f lock 0                ENOLCK
a flock f ex                    ENOLCK
a set f w set -1 1              EINVAL
a close f                       ok
";
    play(script, |dir| program.both(dir.path(), ""));
    Ok(())
}

#[test]
fn a_daemon_with_a_lockf_pid_file_runs_once() -> Result {
    let getpid = ["-D_WASI_EMULATED_GETPID", "-lwasi-emulated-getpid"];
    let source = "tests/polyglot/guests/c/pidfile.c";
    let Some(daemon) = Program::build(source, &getpid)? else {
        return Ok(());
    };
    let dir = Dir::new();
    for mut first in daemon.both(dir.path(), "pid") {
        let mut first = Process::spawn(&mut first);
        assert_eq!(first.answer(), "running");
        let number = fs::read_to_string(dir.path().join("pid"))?;
        for mut second in daemon.both(dir.path(), "pid") {
            let output = second.stdin(Stdio::null()).output()?;
            let text = String::from_utf8(output.stdout)?;
            assert_eq!(text, format!("already running: {number}"));
        }
        assert!(first.finish());
    }
    Ok(())
}

/// Two components and two native processes at once, each with further arguments.
fn four(program: &Program, dir: &Dir, file: &str, rounds: u32) -> Result {
    let twice = iter::repeat_with(|| program.both(dir.path(), file)).take(2);
    let start = |(number, mut command): (usize, Command)| {
        command
            .arg(rounds.to_string())
            .arg(number.to_string())
            .spawn()
    };
    let processes: Vec<Child> = twice
        .flatten()
        .enumerate()
        .map(start)
        .collect::<std::io::Result<_>>()?;
    for mut process in processes {
        assert!(process.wait()?.success());
    }
    Ok(())
}

#[test]
fn accounts_with_a_lock_on_each_record_are_exact() -> Result {
    let source = "tests/polyglot/guests/c/accounts.c";
    let Some(program) = Program::build(source, &[])? else {
        return Ok(());
    };
    let dir = Dir::new();
    fs::write(dir.path().join("accounts"), [0; 8 * 16])?;
    four(&program, &dir, "accounts", 500)?;
    let records = fs::read(dir.path().join("accounts"))?;
    let (numbers, _) = records.as_chunks();
    let numbers: Vec<_> = numbers.iter().map(|it| i64::from_le_bytes(*it)).collect();
    let balance: i64 = numbers.iter().step_by(2).sum();
    let moves: i64 = numbers.iter().skip(1).step_by(2).sum();
    assert_eq!((balance, moves), (0, 4 * 500 * 2));
    Ok(())
}

#[test]
fn no_message_of_a_mailbox_is_lost_or_mixed_with_another() -> Result {
    let Some(program) = Program::build("tests/polyglot/guests/c/mbox.c", &[])? else {
        return Ok(());
    };
    let dir = Dir::new();
    four(&program, &dir, "mbox", 200)?;
    let mailbox = fs::read_to_string(dir.path().join("mbox"))?;
    let mut next = [0; 4];
    let mut rest = mailbox.as_str();
    while let Some(message) = rest.strip_prefix("From ") {
        let (sender, _) = message.split_once('\n').expect("a message has lines");
        let number = &mut next[sender.parse::<usize>()?];
        let lines = format!("{sender} says {number}\n").repeat(5);
        let whole = format!("{sender}\nSubject: {number}\n\n{lines}\n");
        rest = message
            .strip_prefix(&whole)
            .expect("messages are whole, and in order");
        *number += 1;
    }
    assert_eq!(rest, "");
    assert_eq!(next, [200; 4]);
    Ok(())
}
