//! The clock that leases run by.

use std::time::Duration;

/// A moment on the clock that also runs while the system is suspended, and that no one sets.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Self {
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        {
            // On macOS the monotonic clock runs while the system sleeps.
            #[cfg(target_os = "linux")]
            let clock = rustix::time::ClockId::Boottime;
            #[cfg(target_os = "macos")]
            let clock = rustix::time::ClockId::Monotonic;
            let now = rustix::time::clock_gettime(clock);
            let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
            let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
            Self(Duration::new(seconds, nanoseconds))
        }
        #[cfg(not(any(target_os = "linux", target_os = "macos")))]
        {
            // The performance counter of Windows, behind `Instant`, runs while the system sleeps.
            use std::sync::LazyLock;
            use std::time::Instant;
            static START: LazyLock<Instant> = LazyLock::new(Instant::now);
            Self(START.elapsed())
        }
    }

    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// The time from now until then; zero if it has passed.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    pub(crate) fn has_passed(self) -> bool {
        self <= Self::now()
    }
}
