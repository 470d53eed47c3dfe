//! Programs that lock the same file without Locket.

use std::path::Path;
use std::process::Command;

use super::{is_free, stuck, waiter};
use crate::support::{Dir, Holder, code, python};

/// How a foreign program locks a file exclusively.
#[derive(Clone, Copy, Debug)]
pub(super) enum Foreign {
    Flock1,
    PythonFlock,
    PythonLockf,
}

impl Foreign {
    pub(super) const ALL: [Self; 3] = [Self::Flock1, Self::PythonFlock, Self::PythonLockf];

    fn hold(self, path: &Path) -> Holder {
        match self.python_call() {
            None => Holder::flock(path),
            Some(call) => Holder::python(&format!("{call}(f, fcntl.LOCK_EX)"), path),
        }
    }

    pub(super) fn is_free(self, path: &Path) -> bool {
        let code = code(match self.python_call() {
            None => {
                let mut flock = Command::new("flock");
                flock.args(["-n", "-E", "9"]).arg(path).arg("true");
                flock
            }
            Some(call) => {
                let lock = format!("{call}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)");
                python(&format!("try: {lock}\nexcept OSError: sys.exit(9)"), path)
            }
        });
        assert!(code == 0 || code == 9, "{self:?}: {code}");
        code == 0
    }

    fn python_call(self) -> Option<&'static str> {
        match self {
            Self::Flock1 => None,
            Self::PythonFlock => Some("fcntl.flock"),
            Self::PythonLockf => Some("fcntl.lockf"),
        }
    }
}

#[test]
fn exec_and_foreign_programs_exclude_each_other() {
    let dir = Dir::new();
    for foreign in Foreign::ALL {
        for protocol in ["native", "flock"] {
            // Only `native` also excludes users of fcntl(2).
            let excludes = protocol == "native" || !matches!(foreign, Foreign::PythonLockf);
            let lock = dir.path(&format!("{foreign:?}-{protocol}"));
            let what = format!("{foreign:?} and {protocol}");

            let holder = Holder::exec(&["--protocol", protocol], &lock);
            assert_eq!(foreign.is_free(&lock), !excludes, "{what}");
            assert_eq!(holder.end(), 0);
            assert!(foreign.is_free(&lock), "{what}");

            let holder = foreign.hold(&lock);
            assert_eq!(
                is_free(&["--protocol", protocol], &lock),
                !excludes,
                "{what}"
            );
            assert_eq!(holder.end(), 0);
            assert!(is_free(&["--protocol", protocol], &lock), "{what}");
        }
    }
}

#[test]
fn exec_waits_for_a_foreign_program() {
    let dir = Dir::new();
    for foreign in Foreign::ALL {
        let lock = dir.path(&format!("{foreign:?}"));
        let holder = foreign.hold(&lock);
        let (mut child, _stderr) = waiter(&["-w", &stuck()], &lock, &["true"]);
        assert_eq!(holder.end(), 0);
        assert!(child.wait().unwrap().success(), "{foreign:?}");
    }
}
