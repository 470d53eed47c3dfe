//! `locket trace` on systems that do not tell who holds a lock and who awaits it.

use std::ffi::OsString;

use clap::Args;

use crate::exit::{self, ExitError};

/// Show who held and awaited a lock when. Not available on this system.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct Trace {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _all: Vec<OsString>,
}

impl Trace {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let why = "`locket trace` is not available on this system, which has no table of the locks of \
                   processes and of their waiters, as Linux has in /proc/locks; `locket status --watch` \
                   shows what this system tells";
        Err(ExitError::new(exit::UNAVAILABLE, why).into())
    }
}
