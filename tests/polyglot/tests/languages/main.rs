//! What every language must do. A guest is told what to do with locks, line by line, and does it
//! through the bindings of its language.

use locket::sandbox::{Limits, Rights};
use locket::{Mode, Options, Protocol};
use locket_tests::harness::{AT_ONCE, Host, QUIESCENT, STUCK};
use locket_wasmtime::LocketCtx;
use polyglot::host::{Guest, component};
use polyglot::{Language, bindings};
use std::fs;
use std::time::{Duration, Instant};
use tokio::time::timeout;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

macro_rules! languages {
    ($($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result {
                speaks_locket(stringify!($name)).await
            }
        )*

        #[test]
        fn every_language_is_tested() {
            let tested = [$(stringify!($name)),*];
            let languages: Vec<_> = polyglot::LANGUAGES.iter().map(|l| l.name).collect();
            assert_eq!(languages, tested);
        }
    };
}

languages! {
    assemblyscript
    c
    cpp
    go
    javascript
    python
    rust
    starlingmonkey
    typescript
    zig
}

#[test]
fn generated_bindings_are_fresh() -> Result {
    for (path, generated) in bindings::generated()? {
        let is_fresh = fs::read(&path)? == generated;
        assert!(is_fresh, "{}: run `{}`", path.display(), bindings::GENERATE);
    }
    Ok(())
}

/// A host, and what is needed to start guests of one language on it.
struct Stage {
    host: Host,
    component: wasmtime::component::Component,
}

async fn speaks_locket(name: &str) -> Result {
    let language = Language::named(name).expect("a language");
    if !language.is_ready() {
        return Ok(());
    }
    let stage = Stage {
        component: component(&language.built()?.path)?,
        host: Host::new(),
    };
    holds_and_releases(&stage).await?;
    waits(&stage).await?;
    shares(&stage).await?;
    chooses_a_protocol(&stage).await?;
    fails_as_the_interface_says(&stage).await?;
    loses_what_is_taken_away(&stage).await?;
    survives_bad_input(&stage).await?;
    disposes(&stage).await?;
    releases_when_the_scope_fails(&stage).await?;
    counts(&stage).await?;
    leaves_nothing_behind_when_it_traps(&stage).await?;
    Ok(())
}

impl Stage {
    async fn guest(&self) -> Result<Guest> {
        Ok(Guest::start(&self.component, &self.host).await?)
    }
}

/// Gives commands that do not wait, each with the reply that is expected.
#[track_caller]
fn dialogue<'a>(
    guest: &'a mut Guest,
    lines: &'a [(&'a str, &'a str)],
) -> impl Future<Output = Result> + 'a {
    guest.dialogue(lines, AT_ONCE)
}

async fn holds_and_releases(stage: &Stage) -> Result {
    let mut guest = stage.guest().await?;
    dialogue(
        &mut guest,
        &[
            ("open a /locks/a", "ok"),
            ("state a", "ok unlocked"),
            ("is-locked a", "ok false"),
            ("acquire a exclusive none", "ok"),
            ("state a", "ok held"),
            ("is-locked a", "ok true"),
        ],
    )
    .await?;
    assert!(!stage.host.is_free("a"));
    dialogue(&mut guest, &[("release a", "ok")]).await?;
    assert!(stage.host.is_free("a"));
    dialogue(
        &mut guest,
        &[
            ("release a", "err not-locked"),
            ("state a", "ok unlocked"),
            ("is-locked a", "ok false"),
            // Free, so no timeout matters.
            ("acquire a exclusive 0", "ok"),
            ("release a", "ok"),
            ("acquire a exclusive 100000", "ok"),
            // Two handles on one file are one lock.
            ("open b /locks/./a", "ok"),
            ("release b", "ok"),
            ("release a", "err not-locked"),
        ],
    )
    .await
}

async fn waits(stage: &Stage) -> Result {
    const SHORT: Duration = Duration::from_millis(50);
    let mut guest = stage.guest().await?;
    dialogue(&mut guest, &[("open a /locks/a", "ok")]).await?;
    let holder = stage.host.lock("a");
    let hold = holder.acquire(Mode::Exclusive, None)?;
    dialogue(
        &mut guest,
        &[
            ("acquire a exclusive 0", "err would-block"),
            ("acquire a shared 0", "err would-block"),
        ],
    )
    .await?;
    let start = Instant::now();
    dialogue(&mut guest, &[("acquire a exclusive 50", "err timeout")]).await?;
    assert!(start.elapsed() >= SHORT, "the timeout was cut short");
    dialogue(&mut guest, &[("release a", "err not-owner")]).await?;

    let mut hold = Some(hold);
    for patience in ["none", "20000"] {
        let command = format!("acquire a exclusive {patience}");
        let hold = match hold.take() {
            Some(hold) => hold,
            None => holder.acquire(Mode::Exclusive, None)?,
        };
        let mut waits = Box::pin(guest.run(&command));
        let waiting = timeout(QUIESCENT, &mut waits).await;
        assert!(waiting.is_err(), "{command} did not wait");
        drop(hold);
        assert_eq!(timeout(STUCK, waits).await??, "ok");
        dialogue(&mut guest, &[("release a", "ok")]).await?;
    }
    Ok(())
}

async fn shares(stage: &Stage) -> Result {
    let (mut one, mut other) = (stage.guest().await?, stage.guest().await?);
    for guest in [&mut one, &mut other] {
        dialogue(
            guest,
            &[
                ("open a /locks/a", "ok"),
                ("acquire a shared none", "ok"),
                ("state a", "ok held"),
            ],
        )
        .await?;
    }
    dialogue(&mut one, &[("release a", "ok"), ("is-locked a", "ok true")]).await?;
    dialogue(
        &mut one,
        &[
            ("acquire a exclusive 0", "err would-block"),
            ("acquire a exclusive 20", "err timeout"),
            ("acquire a shared 20", "ok"),
            // Each shared hold is released on its own.
            ("acquire a shared 0", "ok"),
            ("release a", "ok"),
            ("release a", "ok"),
            ("release a", "err not-owner"),
        ],
    )
    .await?;
    dialogue(
        &mut other,
        &[("release a", "ok"), ("release a", "err not-locked")],
    )
    .await
}

async fn chooses_a_protocol(stage: &Stage) -> Result {
    let mut guest = stage.guest().await?;
    dialogue(
        &mut guest,
        &[
            ("open f /locks/f flock", "ok"),
            ("open m /locks/m mkdir", "ok"),
            ("open s /locks/s sqlite", "err not-supported"),
            ("acquire f exclusive 0", "ok"),
            ("acquire m shared 0", "err not-supported"),
            ("acquire m exclusive 0", "ok"),
        ],
    )
    .await?;
    let fcntl = Options::new().protocol(Protocol::Fcntl);
    let other_family = locket::Engine::new().open_with(stage.host.path("f"), &fcntl)?;
    assert!(other_family.try_acquire(Mode::Exclusive)?.is_some());
    assert!(stage.host.path("m.lock").is_dir());
    dialogue(&mut guest, &[("release f", "ok"), ("release m", "ok")]).await?;
    assert!(!stage.host.path("m.lock").exists());
    Ok(())
}

async fn fails_as_the_interface_says(stage: &Stage) -> Result {
    let mut guest = stage.guest().await?;
    fs::create_dir(stage.host.path("folder"))?;
    dialogue(
        &mut guest,
        &[
            ("open x /elsewhere/x", "err access-denied"),
            ("open x /locks/../x", "err invalid-path"),
            ("open x /locks/missing/x", "err no-entry"),
            ("open x /locks/folder", "err invalid-path"),
            ("open x ", "err invalid-path"),
            ("open a /locks/a", "ok"),
            ("acquire a exclusive 0", "ok"),
            ("acquire a exclusive 0", "err would-block"),
            ("acquire a exclusive none", "err deadlock"),
            ("release a", "ok"),
        ],
    )
    .await?;

    let hold = stage.host.lock("a").acquire(Mode::Exclusive, None)?;
    let limits = Limits::new().longest_wait(Some(QUIESCENT));
    let hasty = stage.host.ctx().limits(limits).build();
    let mut guest = Guest::start_with(&stage.component, &stage.host, hasty).await?;
    dialogue(
        &mut guest,
        &[
            ("open a /locks/a", "ok"),
            ("acquire a exclusive none", "err canceled"),
            ("acquire a exclusive 60000", "err canceled"),
        ],
    )
    .await?;
    drop(hold);

    let nothing = LocketCtx::builder(&stage.host.locks).build();
    let mut guest = Guest::start_with(&stage.component, &stage.host, nothing).await?;
    dialogue(&mut guest, &[("open a /locks/a", "err access-denied")]).await?;

    let reader = LocketCtx::builder(&stage.host.locks)
        .limits(Limits::new().handles(1))
        .grant_dir(&stage.host.dir, "/locks", Rights::READ_ONLY)?
        .build();
    let mut guest = Guest::start_with(&stage.component, &stage.host, reader).await?;
    dialogue(
        &mut guest,
        &[
            ("open new /locks/new", "err no-entry"),
            ("open a /locks/a", "ok"),
            ("open b /locks/a", "err limit-exceeded"),
            ("acquire a exclusive 0", "err access-denied"),
            ("acquire a shared 0", "ok"),
            ("release a", "ok"),
        ],
    )
    .await
}

async fn loses_what_is_taken_away(stage: &Stage) -> Result {
    let mut guest = stage.guest().await?;
    dialogue(
        &mut guest,
        &[("open a /locks/a", "ok"), ("acquire a exclusive 0", "ok")],
    )
    .await?;
    stage.host.lock("a").break_lock()?;
    dialogue(
        &mut guest,
        &[
            ("state a", "ok lost broken"),
            ("release a", "err lost broken"),
            ("release a", "err not-locked"),
        ],
    )
    .await
}

async fn survives_bad_input(stage: &Stage) -> Result {
    let mut guest = stage.guest().await?;
    for name in ["schloß 锁 🔒", &"n".repeat(255)] {
        let open = format!("open u /locks/{name}");
        let held = [(open.as_str(), "ok"), ("acquire u exclusive 0", "ok")];
        dialogue(&mut guest, &held).await?;
        assert!(!stage.host.is_free(name), "{name}");
        dialogue(&mut guest, &[("release u", "ok"), ("drop u", "ok")]).await?;
    }
    for path in ["n".repeat(256), "d/".repeat(1000), "🔒".repeat(100_000)] {
        let open = format!("open u /locks/{path}");
        dialogue(&mut guest, &[(&open, "err invalid-path")]).await?;
    }
    dialogue(
        &mut guest,
        &[
            ("state u", "err closed"),
            ("acquire u exclusive 0", "err closed"),
            ("release u", "err closed"),
            ("is-locked u", "err closed"),
            ("scoped u 0", "err closed"),
            ("count u 1", "err closed"),
            ("drop u", "err closed"),
            ("open a /locks/a", "ok"),
        ],
    )
    .await?;
    // Bindings cut what is too long and reject what is no time, each as its language has it. No
    // guest traps on it, or takes the one for the other.
    for (time, is_time) in [
        ("4294967295", true),
        ("4294967296", true),
        ("99999999999999999999999999", true),
        ("-1", false),
        ("soon", false),
    ] {
        let reply = guest.run(&format!("acquire a exclusive {time}")).await?;
        if reply == "ok" {
            assert!(is_time, "{time}");
            dialogue(&mut guest, &[("release a", "ok")]).await?;
        } else {
            assert!(reply.starts_with("err "), "{time}: {reply}");
            assert_ne!(time, "4294967295");
        }
        dialogue(&mut guest, &[("state a", "ok unlocked")]).await?;
    }
    Ok(())
}

async fn disposes(stage: &Stage) -> Result {
    let few = stage.host.ctx().limits(Limits::new().handles(2)).build();
    let mut guest = Guest::start_with(&stage.component, &stage.host, few).await?;
    let mut before = None;
    for _ in 0..100 {
        dialogue(
            &mut guest,
            &[
                ("open a /locks/a", "ok"),
                ("acquire a exclusive 0", "ok"),
                // What an error leaves behind must not keep the lock.
                ("acquire a exclusive 0", "err would-block"),
                ("drop a", "ok"),
            ],
        )
        .await?;
        assert!(stage.host.is_free("a"));
        // From the first time on, in which a runtime may still set itself up.
        let resources = guest.resources();
        assert_eq!(resources, *before.get_or_insert(resources));
    }
    dialogue(&mut guest, &[("release a", "err closed")]).await
}

async fn releases_when_the_scope_fails(stage: &Stage) -> Result {
    let mut guest = stage.guest().await?;
    dialogue(
        &mut guest,
        &[
            ("open a /locks/a", "ok"),
            ("scoped a 1000", "ok inside"),
            ("state a", "ok unlocked"),
        ],
    )
    .await?;
    assert!(stage.host.is_free("a"));
    let _hold = stage.host.lock("a").acquire(Mode::Exclusive, None)?;
    dialogue(
        &mut guest,
        &[
            ("scoped a 0", "err would-block"),
            ("scoped a 20", "err timeout"),
        ],
    )
    .await
}

async fn counts(stage: &Stage) -> Result {
    fs::write(stage.host.path("counter"), "7")?;
    let mut guest = stage.guest().await?;
    let dialogue = dialogue(
        &mut guest,
        &[("open a /locks/a", "ok"), ("count a 100", "ok")],
    );
    dialogue.await?;
    assert_eq!(fs::read_to_string(stage.host.path("counter"))?, "107");
    assert!(stage.host.is_free("a"));
    Ok(())
}

async fn leaves_nothing_behind_when_it_traps(stage: &Stage) -> Result {
    let mut guest = stage.guest().await?;
    dialogue(
        &mut guest,
        &[("open a /locks/a", "ok"), ("acquire a exclusive 0", "ok")],
    )
    .await?;
    let trap = guest.run("trap").await;
    let trap = trap.expect_err("it was told to trap");
    assert!(
        trap.is::<wasmtime::Trap>() || trap.is::<wasmtime_wasi::I32Exit>(),
        "{trap:?}"
    );
    drop(guest);
    assert!(stage.host.is_free("a"));
    Ok(())
}
