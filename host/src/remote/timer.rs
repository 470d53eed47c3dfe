//! Sleeping on the clock that leases run by.

use std::time::Duration;

use super::Moment;

/// How late a sleeper may be where no timer runs by that clock.
const STEP: Duration = Duration::from_millis(200);

/// Completes at `moment`; if the system is suspended then, as soon as it is not any more.
pub(crate) async fn at(moment: Moment) {
    while !moment.has_passed() {
        #[cfg(target_os = "linux")]
        if let Ok(timer) = armed(moment.left()) {
            let _ = timer.readable().await;
            continue;
        }
        // The runtime's clock stands still while the system is suspended.
        tokio::time::sleep(moment.left().min(STEP)).await;
    }
}

/// A timer that becomes readable when `time` is over.
#[cfg(target_os = "linux")]
fn armed(time: Duration) -> std::io::Result<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
    let once = Itimerspec {
        it_interval: Timespec::default(),
        // Zero would disarm it.
        it_value: Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos().max(1)),
        },
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    #[allow(
        deprecated,
        reason = "sound for a descriptor that is owned; what replaces it is unsafe"
    )]
    tokio::io::unix::AsyncFd::new(timer)
}
