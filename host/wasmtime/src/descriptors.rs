//! `descriptors`, of WASI 0.2 and of 0.3: the descriptors of both are one type of the host.

use wasmtime::component::Resource;
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::Descriptor;

use super::api::protocol;
use super::bindings::{api, descriptors, lock_p3};
use super::{LockError, LockFile, LocketCtxView, RangeFile};
use locket::OnRelease;
use locket::sandbox::Rights;

impl descriptors::Host for LocketCtxView<'_> {
    fn open_lock(
        &mut self,
        file: Resource<Descriptor>,
        options: api::Options,
    ) -> Result<Resource<LockFile>, LockError> {
        let (file, rights) = lent(self.table.get(&file)?)?;
        let protocol = options.protocol.map(protocol).transpose()?;
        let on_release = OnRelease::from(options.on_release);
        let lock = self.ctx.open_lent(file, rights, protocol, on_release)?;
        Ok(self.table.push(lock)?)
    }

    fn open_ranges(
        &mut self,
        file: Resource<Descriptor>,
    ) -> Result<Resource<RangeFile>, LockError> {
        let (file, rights) = lent(self.table.get(&file)?)?;
        let file = self.ctx.open_lent_ranges(file, rights)?;
        Ok(self.table.push(file)?)
    }
}

impl lock_p3::descriptors::Host for LocketCtxView<'_> {
    fn open_lock(
        &mut self,
        file: Resource<Descriptor>,
        options: api::Options,
    ) -> Result<Resource<LockFile>, LockError> {
        descriptors::Host::open_lock(self, file, options)
    }

    fn open_ranges(
        &mut self,
        file: Resource<Descriptor>,
    ) -> Result<Resource<RangeFile>, LockError> {
        descriptors::Host::open_ranges(self, file)
    }
}

/// The open file of a guest, and what the guest may do with it. A guest that may write the file may
/// hold a `flock` exclusively however it has opened it.
fn lent(file: &Descriptor) -> Result<(&std::fs::File, Rights), api::Error> {
    let Descriptor::File(file) = file else {
        return Err(api::Error::InvalidPath);
    };
    let rights = match file.perms {
        FsPerms::ReadOnly => Rights::SHARED,
        FsPerms::ReadWrite => Rights::SHARED | Rights::EXCLUSIVE,
    };
    Ok((&file.file, rights))
}
