//! The changes of a trace as JSON, a line each. A change here is one to the documented format.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use serde::Serialize;

use super::sample::State;
use super::timeline::Event;
use crate::status::report::Mode;

#[derive(Serialize)]
struct Line<'a> {
    time: f64,
    path: &'a str,
    path_bytes: Option<&'a [u8]>,
    pid: Option<i32>,
    elsewhere: bool,
    command: Option<&'a str>,
    state: &'static str,
    mode: Option<Mode>,
    protocol: Option<&'static str>,
}

/// A change as a line, without its end.
pub(super) fn line(event: &Event<'_>) -> serde_json::Result<String> {
    serde_json::to_string(&fields(event, &event.path.to_string_lossy()))
}

fn fields<'a>(event: &'a Event<'_>, path: &'a str) -> Line<'a> {
    Line {
        time: seconds(event.time),
        path,
        path_bytes: match event.path.to_str() {
            Some(_) => None,
            None => Some(event.path.as_os_str().as_bytes()),
        },
        pid: event.process.pid,
        elsewhere: event.process.elsewhere,
        command: event.process.command.as_deref(),
        state: match event.doing.map(|doing| doing.state) {
            Some(State::Held) => "held",
            Some(State::Waits) => "waits",
            None => "gone",
        },
        mode: event.doing.map(|doing| doing.mode),
        protocol: event.doing.map(|doing| doing.protocol.name()),
    }
}

/// With no more digits than mean something.
fn seconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use locket::Protocol;
    use serde_json::{Value, json};

    use super::super::sample::Doing;
    use super::super::timeline::tests::{ms, process};
    use super::*;

    #[test]
    fn a_line_has_exactly_the_documented_fields() {
        let process = process(7, 0);
        let printed = |path, doing| -> Value {
            let event = Event {
                time: ms(1250),
                path,
                process: &process,
                doing,
            };
            serde_json::from_str(&line(&event).unwrap()).unwrap()
        };
        let held = Doing {
            state: State::Held,
            mode: Mode::Shared,
            protocol: Protocol::Native,
        };
        let expected = json!({
            "time": 1.25, "path": "a", "path_bytes": null, "pid": 7, "elsewhere": false,
            "command": "command 7", "state": "held", "mode": "shared", "protocol": "native",
        });
        assert_eq!(printed(Path::new("a"), Some(held)), expected);
        let path = Path::new(OsStr::from_bytes(b"\xff"));
        let expected = json!({
            "time": 1.25, "path": "\u{fffd}", "path_bytes": [255], "pid": 7, "elsewhere": false,
            "command": "command 7", "state": "gone", "mode": null, "protocol": null,
        });
        assert_eq!(printed(path, None), expected);
    }
}
