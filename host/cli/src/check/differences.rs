//! What is not as on a local file system, in sentences.

use super::facts::{Facts, Outcome};

/// Whatever the protocol.
pub(super) fn differences(facts: &Facts) -> Vec<String> {
    let Facts {
        flock,
        record,
        names,
    } = facts;
    let mut found = Vec::new();
    if flock.excludes_other_family.is_yes() {
        found.push("`flock` and record locks exclude each other".to_owned());
    }
    let mut expect = |outcome: &Outcome, otherwise: &str| match outcome {
        Outcome::Yes | Outcome::NotTried => {}
        Outcome::No => found.push(otherwise.to_owned()),
        Outcome::NoAnswer => found.push(format!("{otherwise} (no answer)")),
        Outcome::Failed(why) => found.push(format!("{otherwise} ({why})")),
    };
    // If a lock excludes no process, its other differences do not matter.
    if flock.exclusive.is_yes() {
        expect(
            &flock.read_only,
            "`flock` takes permission to write the file",
        );
        expect(&flock.directory, "a directory cannot be locked");
        expect(&flock.removed, "a locked file cannot be removed");
    }
    for (name, family) in [("`flock`", flock), ("a record lock", record)] {
        if family.exclusive.is_yes() {
            let same = format!("{name} does not exclude another descriptor of the process");
            expect(&family.descriptions, &same);
            let late =
                format!("a wait for {name} cannot be interrupted, so a timeout can come late");
            expect(&family.interrupted, &late);
        }
    }
    if record.exclusive.is_yes() {
        expect(&record.ranges, "record locks do not keep ranges apart");
    }
    if names.new_link.is_yes() {
        expect(&names.link_count, "hard links are not counted");
    }
    expect(
        &names.exchange,
        "names cannot be exchanged, so the existence lock of a dead holder cannot be taken over",
    );
    expect(
        &names.attributes,
        "files have no attributes, with which `pid-file` and `soft` prove that a holder is dead",
    );
    let now_and_then = "so waiters for existence locks look now and then";
    let told = format!("the system does not tell of new names, {now_and_then}");
    expect(&names.told_of_creation, &told);
    let told = format!("the system does not tell of removals, {now_and_then}");
    expect(&names.told_of_removal, &told);
    let other = "has another inode number, so Locket can take it for another file";
    expect(
        &names.same_when_opened,
        &format!("a file that is opened again {other}"),
    );
    expect(
        &names.same_when_renamed,
        &format!("a file that is renamed {other}"),
    );
    expect(
        &names.same_for_others,
        &format!("for another process a file {other}"),
    );
    expect(
        &names.read_at_once,
        "what a process writes, another does not read at once",
    );
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::LockFacts;
    use super::*;

    #[test]
    fn differences_are_told_of_locks_that_exclude() {
        let excludes = || LockFacts {
            exclusive: Outcome::Yes,
            ..LockFacts::default()
        };
        let mut facts = Facts {
            record: excludes(),
            ..Facts::default()
        };
        assert_eq!(differences(&facts), [""; 0]);
        facts.record.interrupted = Outcome::NoAnswer;
        facts.flock.interrupted = Outcome::No;
        facts.names.exchange = Outcome::Failed("Invalid argument".into());
        let differences = differences(&facts);
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert!(differences[0].ends_with("(no answer)"));
        assert!(differences[1].ends_with("(Invalid argument)"));
    }
}
