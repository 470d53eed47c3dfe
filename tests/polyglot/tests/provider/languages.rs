//! Guests in all languages.

use super::{Result, Stage, dialogue};
use polyglot::LANGUAGES;
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_of_every_language_lock_on_a_host_without_locks() -> Result {
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
