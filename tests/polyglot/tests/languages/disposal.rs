//! Locks are released when handles are dropped, when a scope fails and when the guest traps.

use super::*;

pub(crate) async fn disposes(stage: &Stage) -> Result {
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
        // Count from the first round on, in which a runtime may still initialize itself.
        let resources = guest.resources();
        assert_eq!(resources, *before.get_or_insert(resources));
    }
    dialogue(&mut guest, &[("release a", "err closed")]).await
}

pub(crate) async fn releases_when_the_scope_fails(stage: &Stage) -> Result {
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

pub(crate) async fn leaves_nothing_behind_when_it_traps(stage: &Stage) -> Result {
    let mut guest = stage.guest().await?;
    dialogue(
        &mut guest,
        &[("open a /locks/a", "ok"), ("acquire a exclusive 0", "ok")],
    )
    .await?;
    let trap = guest.run("trap").await;
    let trap = trap.expect_err("the guest traps");
    assert!(
        trap.is::<wasmtime::Trap>() || trap.is::<wasmtime_wasi::I32Exit>(),
        "{trap:?}"
    );
    drop(guest);
    assert!(stage.host.is_free("a"));
    Ok(())
}
