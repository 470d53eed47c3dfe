//! pylockfile's `LinkLockFile`: a file of the holder's own, and a hard link to it that is the lock.
//!
//! Linking is atomic even on network file systems on which exclusive creation was not, and if an
//! answer is lost, the number of links tells whether it succeeded. The lock itself does not name
//! its holder. The name of the other link does, so the directory is searched for it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;

use super::MarkerFormat;
use super::dirent::{EntryStat, names_if, open_file, read_file};
use super::owner_record::OwnerRecord;
use super::promise::{self, Claim};
use super::soft;
use crate::object::Created;
use crate::sys;

#[derive(Debug)]
pub(in crate::backend) struct Link;

impl MarkerFormat for Link {
    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
        let (own, token) = match promise::make_promising_file(dir, PERMISSIONS, claim) {
            Some(made) => made,
            // Not possible there: a file that has its name from the start.
            None => {
                let token = claim.unique_name();
                let own = sys::create_file(dir, &token, PERMISSIONS)?;
                (own, token)
            }
        };
        if let Err(e) = sys::link(dir, &token, name)
            && !sys::entry_of(&own).is_ok_and(|facts| facts.links == 2)
        {
            let _ = sys::unlink(dir, &token, None);
            return Err(e);
        }
        Ok(Created {
            token,
            pin: Some(own),
            life: None,
        })
    }

    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<Claim>> {
        // A process that died while it broke the lock by mistake may have left its name on it. Only
        // the creator's makes a promise.
        let claims = owners(dir, name, seen)?.into_iter().map(|(_, claim)| claim);
        let claim = claims.max_by_key(|claim| (claim.promise.is_some(), !claim.is_dead(dir)));
        let claim = claim.map(|claim| Claim::new(claim, || open_file(dir, name, seen)));
        claim.transpose()
    }

    // The provider for guests of other hosts writes such a record, since it does not know its
    // host's name.
    fn is_record(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<bool> {
        let file = open_file(dir, name, seen)?;
        let content = file.map_or(Ok(None), |file| read_file(&file))?;
        Ok(content.is_some_and(|content| soft::is_record(&content)))
    }

    // The lock first: if this stops half-way, the rest is in no other process's way.
    fn clear(
        &self,
        dir: &File,
        name: &OsStr,
        seen: &EntryStat,
        created: Option<&Created>,
    ) -> io::Result<()> {
        let others = match created {
            Some(created) => vec![created.token.clone()],
            None => {
                let owners = owners(dir, name, seen).unwrap_or_default();
                owners.into_iter().map(|(name, _)| name).collect()
            }
        };
        sys::unlink(dir, name, Some(seen.identity()))?;
        for other in others {
            let _ = sys::unlink(dir, &other, Some(seen.identity()));
        }
        Ok(())
    }

    fn clean_up(&self, dir: &File, created: &Created) {
        let _ = sys::unlink(dir, &created.token, None);
    }
}

const PERMISSIONS: u32 = 0o666;

/// The links to the same file that name its owner.
fn owners(dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Vec<(OsString, OwnerRecord)>> {
    /// Enough for the holder and some processes that died while breaking it.
    const MOST: usize = 8;
    let mut owners = Vec::new();
    if seen.links() < 2 {
        return Ok(owners);
    }
    let claims = |name: &OsStr| OwnerRecord::of_name(name).is_some();
    let number = seen.identity().number();
    // In a directory that may not be read, or is too large, no owner can be found.
    let look = |concerns: &dyn Fn(&OsStr, u64) -> bool| names_if(dir, concerns).ok().flatten();
    let mut others = look(&|name, other| other == number && claims(name));
    // A layered file system can report other inode numbers in its directories than elsewhere.
    if others.as_ref().is_some_and(Vec::is_empty) && !seen.identity().is_on_device() {
        others = look(&|name, _| claims(name));
    }
    for other in others.unwrap_or_default() {
        let Some(claim) = OwnerRecord::of_name(&other) else {
            continue;
        };
        if seen.is_at(dir, &other) && other != name {
            owners.push((other, claim));
        }
        if owners.len() > MOST {
            return Ok(Vec::new());
        }
    }
    Ok(owners)
}
