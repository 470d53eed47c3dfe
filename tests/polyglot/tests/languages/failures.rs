//! Errors, losses and bad input.

use super::*;

pub(crate) async fn fails_as_the_interface_says(stage: &Stage) -> Result {
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

pub(crate) async fn loses_what_is_taken_away(stage: &Stage) -> Result {
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

pub(crate) async fn survives_bad_input(stage: &Stage) -> Result {
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
    // Bindings cut what is too long and reject what is no time, each in the way of its language. No guest
    // traps on it or confuses the two.
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
