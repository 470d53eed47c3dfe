//! Tries names, identities, notifications and contents.

use std::path::Path;

use super::actor::{Actor, Finding, Trouble};
use super::facts::{NameFacts, Stop, facts};
use super::step::{Answer, Change, Entry, Opening, Step};

pub(super) fn names(scratch: &Path) -> anyhow::Result<NameFacts> {
    facts(|facts: &mut NameFacts| {
        let [a, b] = &mut Actor::pair(scratch).map_err(Stop::Tool)?;
        facts.new_file.keep(new(a, b, "file", || Entry::File))?;
        facts
            .new_directory
            .keep(new(a, b, "directory", || Entry::Directory))?;
        facts
            .new_symlink
            .keep(new(a, b, "symlink", || Entry::Symlink))?;
        let link = || Entry::Link("file".into());
        facts.new_link.keep(new(a, b, "link", link))?;
        facts.link_count.keep(link_count(b))?;
        if cfg!(target_os = "linux") {
            facts
                .nameless_file
                .keep(a.makes("nameless", Entry::Nameless))?;
        }
        if cfg!(unix) {
            facts.rename_new.keep(rename_new(a, b))?;
            facts.exchange.keep(exchange(a, b))?;
        }
        facts.same_when_opened.keep(same_when_opened(a))?;
        facts.same_when_renamed.keep(same_when_renamed(a))?;
        facts.same_for_others.keep(same_for_others(a, b))?;
        // Elsewhere Locket needs no attributes, and is told of changes in another way, if at all.
        if cfg!(target_os = "linux") {
            facts.attributes.keep(attributes(a, b))?;
            let [creation, removal] = told(a, b);
            facts.told_of_creation.keep(creation)?;
            facts.told_of_removal.keep(removal)?;
        }
        facts.read_at_once.keep(read_at_once(a, b))
    })
}

fn new(a: &mut Actor, b: &mut Actor, name: &str, entry: impl Fn() -> Entry) -> Finding {
    Ok(a.makes(name, entry())? && !b.makes(name, entry())?)
}

/// Of the file that has been linked.
fn link_count(b: &mut Actor) -> Finding {
    Ok(matches!(b.named("file")?, Answer::Inode { links: 2, .. }))
}

fn rename_new(a: &mut Actor, b: &mut Actor) -> Finding {
    let rename = |to: &str| Step::RenameNew("rename-from".into(), to.into());
    a.makes("rename-from", Entry::File)?;
    b.makes("rename-taken", Entry::File)?;
    Ok(!a.does(rename("rename-taken"))? && a.does(rename("rename-free"))?)
}

/// The device and inode number behind a name.
fn identity(actor: &mut Actor, name: &str) -> Result<(u64, u64), Trouble> {
    actor.named(name).and_then(number)
}

fn number(answer: Answer) -> Result<(u64, u64), Trouble> {
    match answer {
        Answer::Inode { device, number, .. } => Ok((device, number)),
        other => Err(Trouble::Failed(format!("{other:?}"))),
    }
}

fn exchange(a: &mut Actor, b: &mut Actor) -> Finding {
    let [one, two] = ["exchange-1", "exchange-2"];
    a.makes(one, Entry::File)?;
    a.makes(two, Entry::File)?;
    let (first, second) = (identity(b, one)?, identity(b, two)?);
    let done = a.does(Step::Exchange(one.into(), two.into()))?;
    Ok(done && (identity(b, one)?, identity(b, two)?) == (second, first))
}

fn same_when_opened(a: &mut Actor) -> Finding {
    a.open(0, "same", Opening::Write)?;
    let first = a.opened(0).and_then(number)?;
    a.open(0, "same", Opening::Read)?;
    Ok(a.opened(0).and_then(number)? == first && identity(a, "same")? == first)
}

fn same_when_renamed(a: &mut Actor) -> Finding {
    a.open(0, "same-before", Opening::Write)?;
    let before = identity(a, "same-before")?;
    // In a way that every file system has.
    a.does(Step::Rename("same-before".into(), "same-after".into()))?;
    Ok(identity(a, "same-after")? == before && a.opened(0).and_then(number)? == before)
}

fn same_for_others(a: &mut Actor, b: &mut Actor) -> Finding {
    a.open(0, "seen", Opening::Write)?;
    b.open(0, "seen", Opening::Read)?;
    Ok(a.opened(0).and_then(number)? == b.opened(0).and_then(number)?)
}

fn attributes(a: &mut Actor, b: &mut Actor) -> Finding {
    let name = "attribute";
    a.open(0, name, Opening::Write)?;
    a.does(Step::SetAttribute(name.into(), "kept".into()))?;
    b.says(Step::Attribute(name.into()), "kept")
}

/// Whether the system tells of what another process creates, and of what it removes.
fn told(a: &mut Actor, b: &mut Actor) -> [Finding; 2] {
    let (dir, name, path) = ("told", "news", "told/news");
    let creation = (|| {
        a.makes(dir, Entry::Directory)?;
        a.does(Step::Watch(dir.into()))?;
        b.makes(path, Entry::File)?;
        a.is_told(name, Change::Creation)
    })();
    let removal = match &creation {
        Ok(_) => b
            .does(Step::Remove(path.into()))
            .and_then(|_| a.is_told(name, Change::Removal)),
        Err(Trouble::Failed(why)) => Err(Trouble::Failed(why.clone())),
        Err(_) => Err(Trouble::NoAnswer),
    };
    [creation, removal]
}

fn read_at_once(a: &mut Actor, b: &mut Actor) -> Finding {
    let name = "content";
    a.open(0, name, Opening::Write)?;
    b.open(0, name, Opening::Write)?;
    let write = |text: &str| Step::Write(0, text.into());
    Ok(a.does(write("one"))?
        && b.says(Step::Read(0), "one")?
        && b.does(write("and two"))?
        && a.says(Step::Read(0), "and two")?)
}
