//! Components, which native programs exclude and take turns with.

use serde_json::json;

use super::*;

/// A guest that is kept in the repository in built form.
fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/guests/built")
        .join(name)
}

/// `locket run` of a guest, with a directory as `/data`.
fn run(dir: &Path, options: &[&str], name: &str, args: &[&str]) -> Command {
    let mut run = locket(&["run"]);
    run.arg("--dir").arg(format!("{}::/data", dir.display()));
    run.args(options).arg(guest(name)).args(args);
    run
}

/// The arguments of a participant of `locket demo` for which the directory is at `dir`.
fn counting(dir: &str, count: u32, id: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    for file in ["lock", "counter", "journal"] {
        arguments.extend([format!("--{file}"), format!("{dir}/{file}")]);
    }
    arguments.extend(["--count".to_owned(), count.to_string()]);
    arguments.extend(["--id".to_owned(), id.to_owned()]);
    arguments
}

fn strings(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn demo(options: &[&str]) -> Value {
    let mut demo = locket(&["demo", "--json"]);
    demo.args(options);
    let demo = output(demo);
    assert!(demo.status.success(), "{demo:?}");
    serde_json::from_slice(&demo.stdout).expect("the output is JSON")
}

#[test]
fn processes_and_components_count_exactly() {
    let report = demo(&["--increments", "50"]);
    assert_eq!(report["total"], json!(400), "{report}");
    assert_eq!(report["exact"], json!(true), "{report}");
    let list = report["participants"].as_array().expect("it is an array");
    for kind in ["native", "wasm"] {
        let of_kind = list.iter().filter(|one| one["kind"] == json!(kind));
        assert_eq!(of_kind.count(), 4, "{report}");
    }
    // All eight participants get a turn.
    assert!(report["hand_overs"].as_u64() >= Some(7), "{report}");
}

#[test]
fn processes_and_components_count_exactly_in_a_database() {
    let report = demo(&["--sqlite", "--increments", "20"]);
    assert_eq!(report["protocol"], json!("sqlite-wal"));
    assert_eq!(report["total"], json!(160), "{report}");
    assert_eq!(report["exact"], json!(true), "{report}");
}

#[test]
fn two_instances_and_two_native_programs_take_turns() {
    const COUNT: u32 = 100;
    let (dir, _) = lock();
    let dir = dir.path();
    let native = dir.to_str().expect("the path is Unicode");
    let instances = ["--instances", "2"];
    let arguments = counting("/data", COUNT, "component");
    let mut commands = vec![run(dir, &instances, "counter.wasm", &strings(&arguments))];
    for name in ["first", "second"] {
        let mut worker = locket(&["demo-worker"]);
        worker.args(counting(native, COUNT, name));
        commands.push(worker);
    }
    let start = |mut command: Command| command.spawn().expect("the tool can be started");
    let participants: Vec<_> = commands.into_iter().map(start).collect();
    for mut participant in participants {
        let status = participant.wait().expect("the tool ends");
        assert_eq!(status.code(), Some(0));
    }
    let read = |name| std::fs::read_to_string(dir.join(name)).expect("it was written");
    assert_eq!(read("counter"), (4 * COUNT).to_string());
    let journal = read("journal");
    let turns = |name: &str| journal.lines().filter(|line| *line == name).count();
    assert_eq!(turns("component"), 200);
    assert_eq!((turns("first"), turns("second")), (100, 100));
}

#[test]
fn a_component_waits_for_the_lock_of_a_native_program() {
    let (dir, path) = lock();
    let arguments = ["join", "/data/app.lock", "/data/other"];
    // Written for WASI 0.3.
    let joined = || run(dir.path(), &[], "tasks.wasm", &arguments);
    let held = Held::start(&[], &path);
    let mut waiter = joined();
    let streams = waiter.stdout(Stdio::piped());
    let mut waiter = streams.spawn().expect("the tool can be started");
    // It has the other lock before it is refused this one.
    let other = dir.path().join("other");
    let refused = || code(exec(&["-n", "-E", "75"], &other, &[LOCKET])) == Some(75);
    while !refused() {
        std::thread::yield_now();
    }
    assert_eq!(waiter.try_wait().expect("it is a child"), None);
    held.end();
    assert_eq!(waiter.wait().expect("the tool ends").code(), Some(0));
    let mut said = String::new();
    let mut stdout = waiter.stdout.take().expect("it is a pipe");
    stdout.read_to_string(&mut said).expect("it ends");
    assert_eq!(said, "ok held=true,true\n");
}

/// Runs the guest that follows commands, and has it hold a lock while it gets the last one.
fn follow(options: &[&str], last: &str) -> (Option<i32>, String) {
    let (dir, path) = lock();
    let mut run = run(dir.path(), options, "remote.wasm", &[]);
    let streams = run.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = streams
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool can be started");
    let mut input = run.stdin.take().expect("it is a pipe");
    let mut answers = BufReader::new(run.stdout.take().expect("it is a pipe")).lines();
    for command in ["open l /data/app.lock", "acquire l exclusive 0"] {
        writeln!(input, "{command}").expect("the guest reads");
        let answer = answers.next().expect("the guest answers");
        assert!(answer.expect("it is text").starts_with("ok"));
    }
    assert_eq!(code(exec(&["-n"], &path, &[LOCKET])), Some(1));
    writeln!(input, "{last}").expect("the guest reads");
    let ended = run.wait_with_output().expect("the tool ends");
    // However it ended, its lock is free.
    Held::start(&["-n"], &path).end();
    (ended.status.code(), text(&ended.stderr))
}

#[test]
fn the_lock_of_a_component_is_released_however_it_ends() {
    // WASI tells success from failure, and no more.
    assert_eq!(follow(&[], "exit 0").0, Some(0));
    assert_eq!(follow(&[], "exit 7").0, Some(1));
    let (code, said) = follow(&[], "trap");
    assert_eq!(code, Some(134), "{said}");
    assert!(said.contains("unreachable"), "{said}");
    let (code, said) = follow(&["--max-time", "1"], "spin");
    assert_eq!(code, Some(134), "{said}");
    assert!(said.contains("used up its running time"), "{said}");
}

/// A program of WASI 0.1 with a memory, which returns at once.
const MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\
    \x07\x13\x02\x06_start\0\0\x06memory\x02\0\x0a\x04\x01\x02\0\x0b";

#[test]
fn a_core_module_becomes_a_component_that_runs() {
    let (dir, _) = lock();
    let module = dir.path().join("module.wasm");
    std::fs::write(&module, MODULE).expect("a file can be written");
    let made = dir.path().join("made.wasm");
    let mut componentize = locket(&["componentize", "-o"]);
    componentize.arg(&made).arg(&module);
    assert_eq!(code(componentize), Some(0));
    let mut run = locket(&["run"]);
    run.arg(&made);
    assert_eq!(code(run), Some(0));
    let mut refused = locket(&["run"]);
    refused.arg(&module);
    assert_eq!(code(refused), Some(65));
}
