//! `ranges` and `ranges-poll`.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynPollable, subscribe};

use super::api::timeout;
use super::bindings::{api, ranges, ranges_poll};
use super::in_progress::InProgress;
use super::{LockError, LocketCtxView, RangeFile};
use locket::sandbox::GuestPendingRange;
use locket::{HeldRange, Range};

impl From<ranges::Range> for Range {
    fn from(ranges::Range { start, length }: ranges::Range) -> Self {
        Self { start, length }
    }
}

impl From<HeldRange> for ranges::Conflict {
    fn from(HeldRange { mode, range }: HeldRange) -> Self {
        let Range { start, length } = range;
        Self {
            mode: mode.into(),
            range: ranges::Range { start, length },
        }
    }
}

/// A lock of a range in progress, which backs the resource `pending-range`.
#[derive(Debug)]
pub struct PendingRange(InProgress<GuestPendingRange>);

impl LocketCtxView<'_> {
    /// The ranges behind a resource. They must belong to the context that is in the store now.
    pub(super) fn range_file(&self, this: &Resource<RangeFile>) -> wasmtime::Result<&RangeFile> {
        let file = self.table.get(this)?;
        wasmtime::ensure!(
            self.ctx.opened_ranges(file),
            "the context in the store was replaced while its guest had files open; \
             change its grants and limits instead"
        );
        Ok(file)
    }
}

impl ranges::Host for LocketCtxView<'_> {}

impl ranges::HostRangeFile for LocketCtxView<'_> {
    fn open(&mut self, path: String) -> Result<Resource<RangeFile>, LockError> {
        let file = self.ctx.open_ranges(&path)?;
        Ok(self.table.push(file)?)
    }

    async fn lock(
        &mut self,
        this: Resource<RangeFile>,
        mode: api::Mode,
        range: ranges::Range,
        wait: Option<api::Milliseconds>,
    ) -> Result<(), LockError> {
        let file = self.range_file(&this)?;
        let lock = file.lock_suspended(mode.into(), range, timeout(wait))?;
        Ok(lock.await?)
    }

    fn unlock(&mut self, this: Resource<RangeFile>, range: ranges::Range) -> Result<(), LockError> {
        Ok(self.range_file(&this)?.unlock(range)?)
    }

    fn query(
        &mut self,
        this: Resource<RangeFile>,
        mode: api::Mode,
        range: ranges::Range,
    ) -> Result<Option<ranges::Conflict>, LockError> {
        let found = self.range_file(&this)?.query(mode.into(), range)?;
        Ok(found.map(Into::into))
    }

    fn drop(&mut self, this: Resource<RangeFile>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl ranges_poll::Host for LocketCtxView<'_> {
    fn start(
        &mut self,
        file: Resource<RangeFile>,
        mode: api::Mode,
        range: ranges::Range,
        wait: Option<api::Milliseconds>,
    ) -> Result<Resource<PendingRange>, LockError> {
        let file = self.range_file(&file)?;
        let handle = file.handle()?;
        let wait = file.start(mode.into(), range, timeout(wait))?;
        let pending = PendingRange(InProgress::begin(wait, handle));
        Ok(self.table.push(pending)?)
    }
}

impl ranges_poll::HostPendingRange for LocketCtxView<'_> {
    fn subscribe(
        &mut self,
        this: Resource<PendingRange>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        let answer = self.table.get(&this)?.0.answer()?;
        let answer = self.table.push(answer)?;
        subscribe(self.table, answer)
    }

    fn finish(
        &mut self,
        this: Resource<PendingRange>,
    ) -> wasmtime::Result<Option<Result<(), api::Error>>> {
        let Some((lock, locked)) = self.table.get(&this)?.0.take() else {
            return Ok(None);
        };
        if locked.is_ok() {
            lock.keep();
        }
        Ok(Some(locked.map_err(Into::into)))
    }

    fn drop(&mut self, this: Resource<PendingRange>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
