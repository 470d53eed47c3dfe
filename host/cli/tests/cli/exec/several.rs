//! Several locks at once.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::{is_free, stuck};
use crate::support::{Dir, Holder, code, exec, locket, output};

/// `locket exec OPTIONS PATHS -- COMMAND`.
fn exec_all(options: &[&str], paths: &[PathBuf], command: &[&str]) -> Command {
    let mut exec = locket(&["exec"]);
    exec.args(options).args(paths).arg("--").args(command);
    exec
}

fn paths(dir: &Dir) -> [PathBuf; 3] {
    ["a", "b", "c"].map(|name| dir.path(name))
}

#[test]
fn all_locks_are_held_or_none() {
    let dir = Dir::new();
    let paths = paths(&dir);
    let holder = Holder::start(exec_all(&[], &paths, &["sh", "-c", "echo ready; cat"]));
    assert!(!paths.iter().any(|path| is_free(&["-s"], path)));
    assert_eq!(holder.end(), 0);
    assert!(paths.iter().all(|path| is_free(&[], path)));
    for held in &paths {
        let holder = Holder::flock(held);
        for options in [&["-n"][..], &["-w", "0.1"]] {
            let options = [options, &["-v", "-E", "75"]].concat();
            let output = output(exec_all(&options, &paths, &["echo", "ran"]));
            assert_eq!(output.status.code(), Some(75));
            assert!(output.stdout.is_empty());
            let said = String::from_utf8(output.stderr).unwrap();
            let advice = format!("`locket status {}` shows who holds it", held.display());
            assert!(said.contains(&advice), "{said}");
            let free = paths.iter().filter(|path| is_free(&[], path)).count();
            assert_eq!(free, 2);
        }
        holder.end();
    }
}

#[test]
fn what_is_waited_for_is_named_and_each_lock_is_passed_on() {
    let dir = Dir::new();
    let paths = paths(&dir);
    let holder = Holder::exec(&[], &paths[1]);
    let list = "ls -l /proc/self/fd | grep -c '/[abc]$'";
    let mut waiter = exec_all(&["-v", "-w", &stuck()], &paths, &["sh", "-c", list]);
    let mut waiter = waiter
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let expected = format!(
        "locket: waiting for the exclusive lock of {}\n",
        paths[1].display()
    );
    let mut line = vec![0; expected.len()];
    let stderr = waiter.stderr.as_mut().unwrap();
    stderr.read_exact(&mut line).unwrap();
    assert_eq!(String::from_utf8(line).unwrap(), expected);
    holder.end();
    assert_eq!(waiter.wait_with_output().unwrap().stdout, b"3\n");
}

#[test]
fn each_lock_has_its_mode() {
    let dir = Dir::new();
    let [a, b, c] = paths(&dir);
    let command = ["sh", "-c", "echo ready; cat"];
    let arg = |path: &Path| path.to_str().unwrap().to_owned();
    let (b_arg, c_arg) = (arg(&b), arg(&c));
    let options = ["--also", &b_arg, "--also-shared", &c_arg];
    let holder = Holder::start(exec(&options, &a, &command));
    for (path, shares) in [(&a, false), (&b, false), (&c, true)] {
        assert!(!is_free(&[], path));
        assert_eq!(is_free(&["-s"], path), shares, "{path:?}");
    }
    holder.end();
    let options = ["-s", "--also", &b_arg, "--also-shared", &c_arg];
    let holder = Holder::start(exec(&options, &a, &command));
    assert!([&a, &b, &c].iter().all(|path| is_free(&["-s"], path)));
    holder.end();
    // One file, in the stronger mode.
    let link = dir.path("link");
    std::fs::hard_link(&a, &link).unwrap();
    let link_arg = arg(&link);
    let holder = Holder::start(exec(&["--also-shared", &link_arg], &a, &command));
    assert!(!is_free(&["-s"], &link));
    holder.end();
    // The shell, and a descriptor.
    let mut line = locket(&["exec", "--also", &b_arg]);
    line.arg(&a).args(["-c", "exit 5"]);
    assert_eq!(code(line), 5);
    assert_eq!(code(locket(&["exec", "--also", &b_arg, "0"])), 64);
}

/// What follows the path is the command, if it is one.
#[test]
fn dashes_in_the_command_of_flock_make_no_paths() {
    let dir = Dir::new();
    let run = |line: &[&str]| {
        let mut exec = locket(&["exec", "-n"]);
        exec.args(line).current_dir(dir.path(""));
        let output = output(exec);
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    assert_eq!(
        run(&["l", "echo", "a", "--", "b"]),
        (Some(0), "a -- b\n".into())
    );
    assert_eq!(
        run(&["l", "--", "echo", "a", "--", "b"]),
        (Some(0), "a -- b\n".into())
    );
    assert_eq!(
        run(&["l", "--", "missing", "--", "echo"]),
        (Some(127), String::new())
    );
    assert_eq!(
        run(&["l", "missing", "-x", "--", "echo"]),
        (Some(127), String::new())
    );
    let names = std::fs::read_dir(dir.path("")).unwrap();
    assert_eq!(
        names
            .map(|name| name.unwrap().file_name())
            .collect::<Vec<_>>(),
        ["l"]
    );
    assert_eq!(
        run(&["l", "m", "--", "echo", "--", "x"]),
        (Some(0), "-- x\n".into())
    );
    assert!(dir.path("m").exists());
    let named_like_a_program = ["--also", "echo", "l", "--", "echo", "x"];
    assert_eq!(run(&named_like_a_program), (Some(0), "x\n".into()));
    assert!(dir.path("echo").exists());
}

/// Processes name three locks in every order, beside `flock(1)` within `flock(1)` in an order of its own. Each
/// reads a number and writes the next one.
#[test]
fn processes_in_every_order_neither_deadlock_nor_lose_a_count() {
    const EACH: usize = 8;
    const ORDERS: [[&str; 3]; 6] = [
        ["a", "b", "c"],
        ["a", "c", "b"],
        ["b", "a", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["c", "b", "a"],
    ];
    let dir = Dir::new();
    let count = dir.write("count", "0");
    let add = "read n <count; echo $((n + 1)) >count";
    let run = |mut command: Command| {
        command.current_dir(dir.path(""));
        assert_eq!(code(command), 0);
    };
    thread::scope(|scope| {
        for [first, second, third] in ORDERS {
            scope.spawn(move || {
                for round in 0..EACH {
                    let mut exec = locket(&["exec", "-w", &stuck()]);
                    match round % 2 {
                        0 => exec.args([first, second, third, "--"]),
                        _ => exec.args([first, "--also", second, "--also-shared", third]),
                    };
                    exec.args(["sh", "-c", add]);
                    run(exec);
                }
            });
        }
        for [first, second] in [["b", "a"], ["c", "b"]] {
            scope.spawn(move || {
                for _ in 0..EACH {
                    let mut flock = Command::new("flock");
                    flock.args([first, "flock", second, "flock", "a.count", "sh", "-c", add]);
                    run(flock);
                }
            });
        }
    });
    let total: usize = std::fs::read_to_string(count)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(total, EACH * (ORDERS.len() + 2));
    assert!(paths(&dir).iter().all(|path| is_free(&[], path)));
}
