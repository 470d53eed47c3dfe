//! Promise 1: One file is one lock, by whichever path; two files are two locks.

use std::fs;

use crate::files::symlink;
use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    one_file_is_one_lock_however_its_path_is_spelled(stand);
    adjacent_files_are_two_locks(stand);
}

fn one_file_is_one_lock_however_its_path_is_spelled(stand: &dyn Stand) {
    let spellings = spellings(stand);
    let (mut holder, mut other) = (stand.start(), stand.start());
    for (i, spelling) in spellings.iter().enumerate() {
        let open = stand.open_as(&i.to_string(), spelling);
        holder.ok(&open);
        other.ok(&open);
    }
    for (i, held) in spellings.iter().enumerate() {
        holder.ok(&format!("acquire {i} exclusive 0"));
        for (j, asked) in spellings.iter().enumerate() {
            let acquire = format!("acquire {j} exclusive 0");
            assert_eq!(other.err(&acquire), "would-block", "{held} {asked}");
            assert_eq!(other.ok(&format!("is-locked {j}")), "true");
            assert_eq!(other.ok(&format!("state {j}")), "Unlocked");
            assert_eq!(holder.err(&acquire), "would-block", "{held} {asked}");
            assert_eq!(holder.ok(&format!("state {j}")), "Held");
        }
        holder.ok(&format!("release {i}"));
    }
    assert!(stand.site().is_free());
}

/// Paths that lead to the lock. A link is another lock where the lock is the name itself.
fn spellings(stand: &dyn Stand) -> Vec<&'static str> {
    let dir = &stand.site().dir;
    fs::create_dir(dir.path("sub")).expect("the folder can be created");
    let mut spellings = vec!["lock", "./lock", "sub/../lock", "./sub/.././lock"];
    if stand.is_kernel_lock() {
        fs::write(dir.path("lock"), "").expect("the lock file can be created");
        fs::hard_link(dir.path("lock"), dir.path("hard-link")).expect("a file can be linked");
        spellings.push("hard-link");
        if symlink("lock", dir.path("symbolic-link")) {
            spellings.push("symbolic-link");
        }
    }
    spellings
}

fn adjacent_files_are_two_locks(stand: &dyn Stand) {
    let (mut holder, mut other) = (stand.subject(), stand.start());
    for subject in [&mut holder, &mut other] {
        subject.ok(&stand.open_as("b", "b"));
    }
    holder.ok("acquire a exclusive 0");
    assert_eq!(holder.ok("is-locked b"), "false");
    assert_eq!(holder.ok("state b"), "Unlocked");
    holder.ok("acquire b exclusive 0");
    holder.ok("release a");
    assert_eq!(holder.ok("is-locked a"), "false");
    assert_eq!(holder.ok("state b"), "Held");
    assert_eq!(other.err("acquire b exclusive 0"), "would-block");
    holder.ok("release b");
    assert!(stand.site().is_free());
}
