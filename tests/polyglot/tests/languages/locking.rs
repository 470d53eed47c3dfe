//! Locks are held, awaited, shared and counted on.

use super::*;

pub(crate) async fn holds_and_releases(stage: &Stage) -> Result {
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

pub(crate) async fn waits(stage: &Stage) -> Result {
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

pub(crate) async fn shares(stage: &Stage) -> Result {
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

pub(crate) async fn chooses_a_protocol(stage: &Stage) -> Result {
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

pub(crate) async fn counts(stage: &Stage) -> Result {
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
