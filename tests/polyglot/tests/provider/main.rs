//! Guests with the provider plugged in, on a host that knows nothing of locks: they exclude each
//! other, and native processes.

use locket::{LockFile, Mode, Options};
use locket_tests::harness::{Host, QUIESCENT, STUCK};
use locket_tests::process::{Process, tool};
use polyglot::host::{Guest, component, component_of};
use polyglot::languages::JCO;
use polyglot::{LANGUAGES, Language, PROVIDER};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};
use tokio::time::{sleep, timeout};
use wasmtime::component::Component;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What guests speak with the provider: the first is the default.
const PROTOCOLS: [&str; 4] = ["link", "soft", "symlink", "mkdir"];

/// Longer than a busy machine keeps a guest from running.
const STALE_AFTER: Duration = Duration::from_secs(2);
const STALE: [(&str, &str); 1] = [("LOCKET_STALE_AFTER", "2")];

/// A host without locks, and guests for it.
struct Stage {
    host: Host,
    component: Component,
}

impl Stage {
    /// With guests of a language; none where it cannot be built.
    fn of(language: &Language) -> Result<Option<Self>> {
        if !(language.is_ready() && PROVIDER.is_ready()) {
            return Ok(None);
        }
        Ok(Some(Self {
            component: component_of(&language.plugged()?)?,
            host: Host::new(),
        }))
    }

    /// With guests in Rust.
    fn new() -> Result<Option<Self>> {
        Self::of(Language::named("rust").expect("a language"))
    }

    async fn guest(&self) -> Result<Guest> {
        self.guest_in(&[]).await
    }

    async fn guest_in(&self, environment: &[(&str, &str)]) -> Result<Guest> {
        Ok(Guest::start_without_locks(&self.component, &self.host, environment).await?)
    }

    /// The lock of a file, for this process.
    fn native(&self, name: &str, protocol: &str) -> Result<LockFile> {
        self.native_with(name, protocol, None)
    }

    fn native_with(&self, name: &str, protocol: &str, stale: Option<Duration>) -> Result<LockFile> {
        let options = Options::new()
            .protocol(protocol.parse()?)
            .stale_after(stale);
        Ok(locket::Engine::new().open_with(self.host.path(name), &options)?)
    }

    /// What is in the directory.
    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.host.dir.path())?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

/// Gives commands, each with the reply that is expected.
#[track_caller]
fn dialogue<'a>(
    guest: &'a mut Guest,
    lines: &'a [(&'a str, &'a str)],
) -> impl Future<Output = Result> + 'a {
    guest.dialogue(lines, STUCK)
}

#[test]
fn it_imports_nothing_but_files_clocks_and_the_environment() -> Result {
    if !PROVIDER.is_ready() {
        return Ok(());
    }
    let provider = component(&PROVIDER.built()?.path)?;
    let engine = provider.engine();
    let kind = provider.component_type();
    let mut imports: Vec<_> = kind
        .imports(engine)
        .map(|(name, _)| name.split('@').next().unwrap_or(name).to_owned())
        .collect();
    imports.sort();
    assert_eq!(
        imports,
        [
            "wasi:cli/environment",
            "wasi:clocks/monotonic-clock",
            "wasi:clocks/wall-clock",
            "wasi:filesystem/preopens",
            "wasi:filesystem/types",
            "wasi:io/poll",
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_of_every_language_lock_where_the_host_has_no_locks() -> Result {
    for language in LANGUAGES {
        let Some(stage) = Stage::of(language)? else {
            continue;
        };
        println!("{}", language.name);
        let mut guest = stage.guest().await?;
        let mut other = stage.guest().await?;
        dialogue(
            &mut guest,
            &[
                ("open a /locks/a", "ok"),
                ("state a", "ok unlocked"),
                ("is-locked a", "ok false"),
                ("release a", "err not-locked"),
                ("acquire a exclusive none", "ok"),
                ("state a", "ok held"),
                ("is-locked a", "ok true"),
                ("acquire a exclusive 0", "err would-block"),
                ("acquire a exclusive 50", "err deadlock"),
                ("acquire a exclusive none", "err deadlock"),
            ],
        )
        .await?;
        dialogue(
            &mut other,
            &[
                ("open a /locks/a", "ok"),
                ("is-locked a", "ok true"),
                ("acquire a exclusive 0", "err would-block"),
                ("acquire a exclusive 50", "err timeout"),
                ("scoped a 20", "err timeout"),
                ("release a", "err not-owner"),
                ("acquire a shared 0", "err not-supported"),
                ("state a", "ok unlocked"),
            ],
        )
        .await?;
        dialogue(
            &mut guest,
            &[
                // Two handles on one file are one lock.
                ("open b /locks/./b/../a", "err no-entry"),
                ("open b /locks/./a", "ok"),
                ("state b", "ok held"),
                ("release b", "ok"),
                ("release a", "err not-locked"),
                ("acquire a exclusive 1000", "ok"),
                // It holds nothing, so this releases nothing.
                ("drop b", "ok"),
                ("state a", "ok held"),
                ("release a", "ok"),
                ("open d /locks/d", "ok"),
                ("acquire d exclusive 0", "ok"),
                ("drop d", "ok"),
                ("open d /locks/d", "ok"),
                ("is-locked d", "ok false"),
            ],
        )
        .await?;
        fs::write(stage.host.path("counter"), "7")?;
        dialogue(
            &mut other,
            &[("scoped a 1000", "ok inside"), ("count a 20", "ok")],
        )
        .await?;
        assert_eq!(fs::read_to_string(stage.host.path("counter"))?, "27");
        assert_eq!(stage.names()?, ["counter"], "{}", language.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_and_native_processes_exclude_each_other() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        let open = format!("open a /locks/{protocol} {protocol}");
        let mut guest = stage.guest().await?;
        let native = stage.native(protocol, protocol)?;

        dialogue(
            &mut guest,
            &[(&open, "ok"), ("acquire a exclusive 0", "ok")],
        )
        .await?;
        assert!(native.try_acquire(Mode::Exclusive)?.is_none(), "{protocol}");
        assert!(native.is_locked()?);
        let holder = native.holder()?.expect("a holder");
        assert!(!holder.is_self, "{protocol}");
        // Whoever waits gets it as soon as it is free.
        let waiter = std::thread::spawn(move || {
            let start = Instant::now();
            let hold = native.acquire(Mode::Exclusive, Some(STUCK));
            hold.map(|hold| (hold.release(), start.elapsed()))
        });
        sleep(QUIESCENT).await;
        dialogue(&mut guest, &[("release a", "ok")]).await?;
        let (released, waited) = waiter.join().expect("no panic")?;
        released?;
        assert!(waited >= QUIESCENT, "{protocol}: {waited:?}");

        let native = stage.native(protocol, protocol)?;
        let hold = native.acquire(Mode::Exclusive, None)?;
        dialogue(
            &mut guest,
            &[
                ("acquire a exclusive 0", "err would-block"),
                ("acquire a exclusive 20", "err timeout"),
                ("is-locked a", "ok true"),
                ("release a", "err not-owner"),
            ],
        )
        .await?;
        let mut waits = Box::pin(guest.run("acquire a exclusive none"));
        assert!(timeout(QUIESCENT, &mut waits).await.is_err(), "{protocol}");
        hold.release()?;
        assert_eq!(timeout(STUCK, waits).await??, "ok");
        drop(guest.run("release a").await?);
    }
    assert!(stage.names()?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_and_native_processes_count_without_a_loss() -> Result {
    const ROUNDS: u32 = 50;
    for protocol in PROTOCOLS {
        let Some(stage) = Stage::new()? else {
            return Ok(());
        };
        fs::write(stage.host.path("counter"), "0")?;
        let mut guests = Vec::new();
        for _ in 0..2 {
            let mut guest = stage.guest().await?;
            guests.push(tokio::spawn(async move {
                let open = format!("open a /locks/a {protocol}");
                let count = format!("count a {ROUNDS}");
                dialogue(&mut guest, &[(&open, "ok"), (&count, "ok")]).await
            }));
        }
        let locket = tool();
        let locket = locket.display();
        let natives: Vec<_> = (0..2)
            .map(|_| {
                let step = "n=$(cat counter); echo $((n + 1)) >counter";
                let one = format!("'{locket}' exec --protocol {protocol} a -- sh -c '{step}'");
                Command::new("sh")
                    .args([
                        "-ec",
                        &format!("i=0; while [ $i -lt {ROUNDS} ]; do {one}; i=$((i + 1)); done"),
                    ])
                    .current_dir(stage.host.dir.path())
                    .spawn()
            })
            .collect();
        for guest in guests {
            guest.await??;
        }
        for native in natives {
            assert!(native?.wait()?.success(), "{protocol}");
        }
        let counted = fs::read_to_string(stage.host.path("counter"))?;
        assert_eq!(counted.trim(), (4 * ROUNDS).to_string(), "{protocol}");
        assert_eq!(stage.names()?, ["counter"], "{protocol}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_of_a_dead_guest_stays_unless_somebody_chose_otherwise() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        let open = format!("open a /locks/{protocol} {protocol}");
        let take = [(open.as_str(), "ok"), ("acquire a exclusive 0", "ok")];
        let mut dead = stage.guest().await?;
        dialogue(&mut dead, &take).await?;
        dead.run("trap").await.expect_err("it was told to");
        drop(dead);
        sleep(STALE_AFTER + QUIESCENT).await;

        // By nobody by default.
        let mut guest = stage.guest().await?;
        dialogue(
            &mut guest,
            &[(&open, "ok"), ("acquire a exclusive 0", "err would-block")],
        )
        .await?;
        let native = stage.native(protocol, protocol)?;
        assert!(native.try_acquire(Mode::Exclusive)?.is_none(), "{protocol}");

        // By a guest that was told to.
        let mut heir = stage.guest_in(&STALE).await?;
        dialogue(&mut heir, &take).await?;
        assert!(native.try_acquire(Mode::Exclusive)?.is_none(), "{protocol}");
        drop(heir);

        // By a native process that was told to.
        sleep(STALE_AFTER + QUIESCENT).await;
        let native = stage.native_with(protocol, protocol, Some(STALE_AFTER))?;
        let hold = native.try_acquire(Mode::Exclusive)?;
        hold.expect("it is that old").release()?;

        // By hand.
        let mut dead = stage.guest().await?;
        dialogue(&mut dead, &take).await?;
        drop(dead);
        stage.native(protocol, protocol)?.break_lock()?;
        dialogue(
            &mut guest,
            &[("acquire a exclusive 0", "ok"), ("release a", "ok")],
        )
        .await?;
        assert!(stage.names()?.is_empty(), "{protocol}: {:?}", stage.names());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_waits_keeps_what_it_holds_alive() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        let native = stage.native("b", protocol)?;
        let hold = native.acquire(Mode::Exclusive, None)?;
        let mut guest = stage.guest_in(&STALE).await?;
        let mut thief = stage.guest_in(&STALE).await?;
        let a = format!("open a /locks/a {protocol}");
        let b = format!("open b /locks/b {protocol}");
        dialogue(
            &mut guest,
            &[(&a, "ok"), (&b, "ok"), ("acquire a exclusive 0", "ok")],
        )
        .await?;
        dialogue(&mut thief, &[(&a, "ok"), (&b, "ok")]).await?;
        let mut waits = Box::pin(guest.run("acquire b exclusive none"));
        let end = Instant::now() + 2 * STALE_AFTER;
        while Instant::now() < end {
            assert!(timeout(QUIESCENT, &mut waits).await.is_err(), "{protocol}");
            // Nor is that of a native process taken, which shows no life and needs none.
            dialogue(
                &mut thief,
                &[
                    ("acquire a exclusive 0", "err would-block"),
                    ("acquire b exclusive 0", "err would-block"),
                ],
            )
            .await?;
        }
        hold.release()?;
        assert_eq!(timeout(STUCK, waits).await??, "ok");
        dialogue(&mut guest, &[("release a", "ok"), ("release b", "ok")]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_takes_over_what_a_dead_guest_left() -> Result {
    const GUESTS: u32 = 6;
    const ROUNDS: u32 = 5;
    for protocol in PROTOCOLS {
        let Some(stage) = Stage::new()? else {
            return Ok(());
        };
        fs::write(stage.host.path("counter"), "0")?;
        let open = format!("open a /locks/a {protocol}");
        let mut dead = stage.guest().await?;
        dialogue(&mut dead, &[(&open, "ok"), ("acquire a exclusive 0", "ok")]).await?;
        drop(dead);
        let mut guests = Vec::new();
        for _ in 0..GUESTS {
            let mut guest = stage.guest_in(&STALE).await?;
            let open = open.clone();
            guests.push(tokio::spawn(async move {
                let count = format!("count a {ROUNDS}");
                dialogue(&mut guest, &[(&open, "ok"), (&count, "ok")]).await
            }));
        }
        for guest in guests {
            guest.await??;
        }
        let counted = fs::read_to_string(stage.host.path("counter"))?;
        assert_eq!(counted, (GUESTS * ROUNDS).to_string(), "{protocol}");
        assert_eq!(stage.names()?, ["counter"], "{protocol}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_was_taken_away_is_lost_and_the_next_one_is_left_alone() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        let open = format!("open a /locks/a {protocol}");
        let mut guest = stage.guest().await?;
        let acquire = ("acquire a exclusive 0", "ok");
        dialogue(&mut guest, &[(&open, "ok"), acquire]).await?;
        let native = stage.native("a", protocol)?;
        native.break_lock()?;
        let next = native.acquire(Mode::Exclusive, Some(STUCK))?;
        // To ask who holds it is to look, but not twice in a moment.
        let end = Instant::now() + STUCK;
        while guest.run("state a").await? == "ok held" {
            assert!(Instant::now() < end, "{protocol}: it does not look");
            dialogue(&mut guest, &[("is-locked a", "ok true")]).await?;
        }
        dialogue(
            &mut guest,
            &[
                ("is-locked a", "ok true"),
                ("state a", "ok lost broken"),
                ("release a", "err lost broken"),
                ("state a", "ok unlocked"),
                ("release a", "err not-owner"),
            ],
        )
        .await?;
        assert!(next.release().is_ok(), "{protocol}");
        // Without a release, too, it can be acquired anew.
        dialogue(&mut guest, &[acquire]).await?;
        native.break_lock()?;
        dialogue(&mut guest, &[acquire, ("release a", "ok")]).await?;
        assert!(stage.names()?.is_empty(), "{protocol}: {:?}", stage.names());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_fails_as_the_interface_says() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    fs::create_dir(stage.host.path("folder"))?;
    std::os::unix::fs::symlink("/", stage.host.path("out"))?;
    let mut guest = stage.guest().await?;
    let (long, deep) = ("n".repeat(256), "d/".repeat(3000));
    let (long, deep) = (
        format!("open x /locks/{long}"),
        format!("open x /locks/{deep}x"),
    );
    dialogue(
        &mut guest,
        &[
            ("open x /elsewhere/x", "err access-denied"),
            ("open x x", "err access-denied"),
            ("open x /locks/../x", "err invalid-path"),
            ("open x /locks/out/x", "err invalid-path"),
            ("open x /locks/missing/x", "err no-entry"),
            ("open x /locks", "err invalid-path"),
            ("open x /locks/", "err invalid-path"),
            ("open x ", "err invalid-path"),
            (&long, "err invalid-path"),
            (&deep, "err invalid-path"),
            ("open x /locks/x native", "err not-supported"),
            ("open x /locks/x flock", "err not-supported"),
            ("open x /locks/x fcntl", "err not-supported"),
            ("open x /locks/x pid-file", "err not-supported"),
            ("open x /locks/x sqlite", "err not-supported"),
            ("open x locks/x", "ok"),
            ("acquire x shared 0", "err not-supported"),
            ("open f /locks/folder soft", "ok"),
            ("acquire f exclusive 0", "err invalid-path"),
            ("is-locked f", "err invalid-path"),
        ],
    )
    .await?;
    let mut guest = stage.guest_in(&[("LOCKET_STALE_AFTER", "soon")]).await?;
    let reply = guest.run("open x /locks/x").await?;
    assert!(reply.starts_with("err other"), "{reply}");
    Ok(())
}

/// Starts a guest in Rust in Node, on the directory of a stage; none where there is no jco.
fn in_node(stage: &Stage, folder: &Path) -> Result<Option<Process>> {
    let typescript = Language::named("typescript").expect("it is made by jco, too");
    if !typescript.is_ready() {
        return Ok(None);
    }
    let modules = JCO.folder()?.join("node_modules");
    let rust = Language::named("rust").expect("a language");
    let plugged = folder.join("plugged.wasm");
    fs::write(&plugged, rust.plugged()?)?;
    polyglot::run(
        Command::new(modules.join(".bin/jco"))
            .args(["transpile", "--name", "plugged"])
            .args(["--map", "locket:test/counter=../counter.js", "--out-dir"])
            .arg(folder.join("guest"))
            .arg(plugged),
    )?;
    for file in ["main.js", "counter.js"] {
        let source = polyglot::root().join("tests/polyglot/node").join(file);
        fs::copy(source, folder.join(file))?;
    }
    fs::write(folder.join("package.json"), r#"{ "type": "module" }"#)?;
    std::os::unix::fs::symlink(modules, folder.join("node_modules"))?;
    let mut node = Command::new("node");
    node.arg(folder.join("main.js")).arg(stage.host.dir.path());
    Ok(Some(Process::spawn(&mut node)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_in_node_takes_part() -> Result {
    const ROUNDS: u32 = 50;
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let Some(mut node) = in_node(&stage, folder.path())? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        fs::write(stage.host.path("counter"), "0")?;
        let open = format!("open a /locks/a {protocol}");
        assert_eq!(node.ask(&open), "ok");
        let mut guest = stage.guest().await?;
        dialogue(&mut guest, &[(&open, "ok")]).await?;

        assert_eq!(node.ask("acquire a exclusive 0"), "ok");
        assert_eq!(node.ask("acquire a exclusive none"), "err deadlock");
        assert_eq!(node.ask("open b /locks/./a"), "ok");
        dialogue(&mut guest, &[("acquire a exclusive 20", "err timeout")]).await?;
        let native = stage.native("a", protocol)?;
        assert!(native.try_acquire(Mode::Exclusive)?.is_none(), "{protocol}");
        assert_eq!(node.ask("release a"), "ok");
        let hold = native.acquire(Mode::Exclusive, Some(STUCK))?;
        assert_eq!(node.ask("acquire a exclusive 20"), "err timeout");
        hold.release()?;

        let count = format!("count a {ROUNDS}");
        node.send(&count);
        dialogue(&mut guest, &[(&count, "ok")]).await?;
        assert_eq!(node.answer(), "ok");
        let counted = fs::read_to_string(stage.host.path("counter"))?;
        assert_eq!(counted, (2 * ROUNDS).to_string(), "{protocol}");
        assert_eq!(stage.names()?, ["counter"], "{protocol}");
    }
    assert!(node.finish());
    Ok(())
}

/// The Python that has the libraries that `tests/peers` installs.
fn python() -> Option<PathBuf> {
    let program = env::current_exe().expect("the path of this test");
    let mut folders = program.ancestors().map(|folder| folder.join("peers"));
    let python = folders
        .find(|folder| folder.join("python").exists())
        .map(|folder| folder.join("venv/bin/python"));
    if python.is_none() {
        assert!(
            env::var_os("CI").is_none(),
            "CI must have run `tests/peers`"
        );
        println!("NOT RUN, for want of filelock: run `tests/peers`");
    }
    python
}

/// A process of Python that tries once to lock at each line.
fn soft_file_lock(python: &Path, path: &Path) -> Process {
    let body = "import sys, filelock\n\
                lock = filelock.SoftFileLock(sys.argv[1])\n\
                for line in sys.stdin:\n\
                \x20try:\n\
                \x20 lock.acquire(timeout=float(line))\n\
                \x20 lock.release()\n\
                \x20 print('got', flush=True)\n\
                \x20except filelock.Timeout:\n\
                \x20 print('held', flush=True)\n";
    Process::spawn(Command::new(python).arg("-c").arg(body).arg(path))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filelock_respects_it_beyond_its_time_for_garbage() -> Result {
    let (Some(stage), Some(python)) = (Stage::new()?, python()) else {
        return Ok(());
    };
    for protocol in ["soft", "link"] {
        let path = match protocol {
            "soft" => stage.host.path("a"),
            _ => stage.host.path("a.lock"),
        };
        let mut peer = soft_file_lock(&python, &path);
        let mut guest = stage.guest().await?;
        let open = format!("open a /locks/a {protocol}");
        dialogue(
            &mut guest,
            &[(&open, "ok"), ("acquire a exclusive 0", "ok")],
        )
        .await?;
        // It takes garbage away after 2 s.
        assert_eq!(peer.ask("3.5"), "held", "{protocol}");
        dialogue(&mut guest, &[("release a", "ok")]).await?;
        assert_eq!(peer.ask("0"), "got", "{protocol}");
    }
    Ok(())
}
