//! `locket status --watch`.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Dir, Holder, LONGEST_RUN, kill, locket};

struct Watch {
    tool: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(options: &[&str], paths: &[&Path]) -> Self {
        let mut watch = locket(&["status", "--watch"]);
        watch.args(options).args(paths).stdout(Stdio::piped());
        let mut tool = watch.spawn().unwrap();
        let lines = BufReader::new(tool.stdout.take().unwrap()).lines();
        Self { tool, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("the output continues").unwrap()
    }

    /// Reads on until a path is held, or is not.
    fn until(&mut self, path: &Path, held: bool) -> Value {
        loop {
            let answer: Value = serde_json::from_str(&self.line()).unwrap();
            if answer["path"] == json!(path) && answer["held"] == json!(held) {
                return answer;
            }
        }
    }

    /// A line without its time.
    fn answer(&mut self) -> String {
        let line = self.line();
        let (time, answer) = line.split_once(' ').unwrap();
        assert_recent(time);
        answer.to_owned()
    }

    /// Interrupts it, as a terminal does.
    fn end(mut self) {
        kill(&self.tool, Signal::INT);
        let end = self.tool.wait().unwrap().signal();
        assert_eq!(end, Some(Signal::INT.as_raw()));
    }
}

/// Checks a time in UTC as RFC 3339 writes it.
fn assert_recent(time: &str) {
    let then = humantime::parse_rfc3339(time).expect(time);
    let age = SystemTime::now().duration_since(then);
    assert!(age.is_ok_and(|age| age < LONGEST_RUN), "{time}");
}

#[test]
fn each_change_is_one_line_until_it_is_interrupted() {
    for options in [&[][..], &["--protocol", "flock"], &["--protocol", "mkdir"]] {
        let dir = Dir::new();
        let (lock, other) = (dir.path("lock"), dir.path("other"));
        let mut watch = Watch::start(&["--json"], &[&other, &lock]);
        watch.until(&lock, false);
        let holder = Holder::exec(options, &lock);
        let held = watch.until(&lock, true);
        assert_eq!(held["holders"][0]["pid"], json!(holder.pid()), "{held}");
        assert_recent(held["time"].as_str().unwrap());
        assert_eq!(holder.end(), 0);
        watch.until(&lock, false);
        watch.end();
    }
}

#[test]
fn without_a_change_it_is_silent() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let mut watch = Watch::start(&[], &[&lock]);
    let path = lock.display();
    let answer = watch.answer();
    assert_eq!(answer, format!("{path}: free (no such file yet)"));
    let holder = Holder::flock(&lock);
    // The file exists a moment before it is locked.
    let mut answer = watch.answer();
    if answer.ends_with(": free") {
        answer = watch.answer();
    }
    let expected = format!("{path}: held exclusively by process ");
    assert!(answer.starts_with(&expected), "{answer}");
    holder.end();
    assert_eq!(watch.answer(), format!("{path}: free"));
    watch.end();
}
