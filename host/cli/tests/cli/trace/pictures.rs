//! What a trace prints at its end.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Trace;
use crate::support::{Dir, Holder, exec, locket, output};

/// The rectangles of an SVG: their process, class, and title. Fails if it is not XML.
const READ_SVG: &str = "import json, sys, xml.etree.ElementTree as tree
svg = '{http://www.w3.org/2000/svg}'
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == svg + 'svg', root.tag
tags = {element.tag for element in root.iter()}
assert svg + 'script' not in tags, tags
lanes = [lane.find(svg + 'title').text for lane in root.iter(svg + 'g')]
bars = [[bar.get('class'), bar.find(svg + 'title').text]
        for bar in root.iter(svg + 'rect') if bar.find(svg + 'title') is not None]
texts = [text.text for text in root.iter(svg + 'text')]
print(json.dumps([lanes, bars, texts]))";

fn read_svg(path: &std::path::Path) -> Value {
    let mut python = Command::new("python3");
    let read = output({
        python.arg("-c").arg(READ_SVG).arg(path);
        python
    });
    assert!(read.status.success(), "{read:?}");
    serde_json::from_slice(&read.stdout).unwrap()
}

#[test]
fn a_picture_has_a_lane_for_each_process_of_each_path() {
    let dir = Dir::new();
    // As hostile as a name can be.
    let (lock, other) = (dir.path("a<b>&\"\n]]>"), dir.path("other"));
    let svg = dir.path("svg");
    let mut trace = locket(&["trace", "--json", "--svg"]);
    let mut trace = Trace::of(trace.arg(&svg).arg(&lock).arg(&other));
    let first = Holder::flock(&lock);
    trace.until_state(first.pid(), "held");
    let reader = Holder::exec(&["-s"], &other);
    trace.until_state(reader.pid(), "held");
    let mut second = exec(&[], &lock, &["sh", "-c", "read line"]);
    let mut second = second.stdin(Stdio::piped()).spawn().unwrap();
    trace.until_state(second.id(), "waits");
    let pids = [first.pid(), second.id(), reader.pid()];
    first.end();
    trace.until_state(second.id(), "held");
    drop(second.stdin.take());
    trace.until_state(second.id(), "gone");
    second.wait().unwrap();
    reader.end();
    assert_eq!(trace.end(), Some(0));

    let read = read_svg(&svg);
    let starts = |text: &Value, pid: u32| text.as_str().unwrap().starts_with(&format!("{pid} "));
    // A look at the moment of a release may find a lock whose holder has just ended.
    let lanes = read[0].as_array().unwrap().iter();
    let lanes: Vec<_> = lanes.filter(|lane| *lane != "unknown").collect();
    assert_eq!(lanes.len(), pids.len(), "{read}");
    for (lane, pid) in lanes.into_iter().zip(pids) {
        assert!(starts(lane, pid), "{pid}: {read}");
    }
    let bars = read[1].as_array().unwrap();
    let has = |pid: u32, class: &str| {
        let mut bars = bars.iter();
        bars.any(|bar| bar[0] == json!(class) && starts(&bar[1], pid))
    };
    let [first, second, reader] = pids;
    assert!(has(first, "exclusive") && !has(first, "waits"), "{read}");
    assert!(has(second, "waits") && has(second, "exclusive"), "{read}");
    assert!(has(reader, "shared") && !has(reader, "exclusive"), "{read}");
    let texts = read[2].as_array().unwrap();
    let name = r#"/a<b>&"\n]]>'"#;
    assert!(
        texts
            .iter()
            .any(|text| text.as_str().unwrap().ends_with(name)),
        "{read}"
    );
}

#[test]
fn what_the_looks_cost_is_told() {
    let dir = Dir::new();
    let mut trace = locket(&["trace", "-v", "--for", "0.1", "--interval", "20"]);
    trace.arg(dir.path("lock"));
    let output = output(trace);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(" looks, one every 20 ms; "), "{text}");
    let cost = String::from_utf8(output.stderr).unwrap();
    assert!(cost.starts_with("locket: the looks took "), "{cost}");
}
