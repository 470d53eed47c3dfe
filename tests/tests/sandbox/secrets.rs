//! A guest learns nothing of the host outside its grant.

use std::os::unix::fs::{PermissionsExt, symlink};

use locket_tests::harness::Foreign;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_contains_a_process_number_or_a_host_path() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    let foreign = Foreign::hold(&host.path("a"), "lockf");
    for command in [
        "holder a",
        "state a",
        "guarantee a",
        "is-locked a",
        "path a",
        "release a",
        "acquire a exclusive 0",
    ] {
        reveals_nothing(&host, &guest.ask(command).await);
    }
    foreign.release();
    for command in ["acquire a exclusive 0", "holder a", "state a", "release a"] {
        reveals_nothing(&host, &guest.ask(command).await);
    }
}

/// While a lock is open, a directory on its path is swapped for a link that leads outside. The guest gets
/// the same answers whether or not the target exists or may be searched.
async fn swapped_directory() {
    let host = Host::new();
    let outside = tempfile::tempdir().unwrap();
    let sealed = outside.path().join("sealed");
    for dir in ["there/c", "sealed"] {
        fs::create_dir_all(outside.path().join(dir)).unwrap();
    }
    let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
    let mut all = Vec::new();
    for (what, target) in [
        ("nothing", outside.path().join("nothing")),
        ("a directory", outside.path().join("there/c")),
        ("the file itself", outside.path().join("there")),
        ("one that may not be searched", sealed.clone()),
        ("one in that", sealed.join("deeper")),
        ("the home of root", "/root".into()),
        ("a directory in that", "/root/.ssh".into()),
        ("none in that", "/root/none".into()),
        ("a link of the system", "/proc/1/cwd".into()),
    ] {
        fs::create_dir(host.path("c")).unwrap();
        guest.ok("open a /locks/c/f").await;
        guest.ok("open held /locks/c/f").await;
        guest.ok("acquire held shared 0").await;
        let _ = fs::remove_file(outside.path().join("there/f"));
        fs::hard_link(host.path("c/f"), outside.path().join("there/f")).unwrap();
        fs::remove_dir_all(host.path("c")).unwrap();
        fs::set_permissions(&sealed, PermissionsExt::from_mode(0o000)).unwrap();
        symlink(&target, host.path("c")).unwrap();
        let mut answers = Vec::new();
        for command in [
            "is-locked a",
            "holder a",
            "state a",
            "acquire a shared 0",
            "acquire a shared 50",
            "acquire a exclusive 0",
            "open b /locks/c/f",
            "open b /locks/c/new",
        ] {
            answers.push(guest.ask(command).await);
        }
        fs::set_permissions(&sealed, PermissionsExt::from_mode(0o755)).unwrap();
        guest.ask("release held").await;
        println!("{what}: {answers:?}");
        all.push((what, answers));
        for name in ["a", "held"] {
            guest.ok(&format!("drop {name}")).await;
        }
        fs::remove_file(host.path("c")).unwrap();
    }
    for (what, answers) in &all {
        assert_eq!(answers, &all[0].1, "{what}");
    }
    let denied = |answer: &String| answer.contains("access-denied");
    assert!(!all[0].1.iter().any(denied));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_about_a_swapped_directory_reveal_nothing_outside() {
    swapped_directory().await;
    if is_root() {
        // Root may search every directory, so do it again as another user.
        run_inner("secrets::inner_swapped_directory", &AS_NOBODY);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test as another user"]
async fn inner_swapped_directory() {
    swapped_directory().await;
}
