//! The stages, one file each; the attackers have a folder of their own.

use crate::stage::Stage;

pub(crate) mod errors;
pub(crate) mod forks;
pub(crate) mod fuzz;
pub(crate) mod hand_off;
pub(crate) mod hung;
pub(crate) mod interleavings;
mod interruptions;
pub(crate) mod killed;
pub(crate) mod kills_at_calls;
#[cfg(feature = "components")]
pub(crate) mod leaks;
pub(crate) mod mixed;
pub(crate) mod model;
#[cfg(feature = "servers")]
pub(crate) mod servers;
pub(crate) mod stopped;
pub(crate) mod transactions;

/// Every stage, in the order in which they run.
pub const STAGES: &[Stage] = &[
    Stage {
        name: "model",
        what: "random histories of calls, compared with a model",
        promise: "every answer is the model's",
        run: model::run,
    },
    Stage {
        name: "interleavings",
        what: "the queue under loom (every order of a few threads) and shuttle (random orders of many)",
        promise: "no order breaks the queue",
        run: interleavings::run,
    },
    Stage {
        name: "fuzz",
        what: "libFuzzer on guest paths, owner records and sequences of calls",
        promise: "no input breaks a rule of its target",
        run: fuzz::run,
    },
    Stage {
        name: "errors",
        what: "each system call of each operation fails, with various errors",
        promise: "the error is reported, and the next owner gets the lock",
        run: errors::run,
    },
    Stage {
        name: "kills-at-calls",
        what: "a process is killed at each system call of each operation",
        promise: "the next owner gets the lock within 100 ms",
        run: kills_at_calls::run,
    },
    Stage {
        name: "mixed",
        what: "threads, tasks, guests, `flock(1)` and Python compete in all protocols",
        promise: "no two sections overlap, no write is lost",
        run: mixed::run,
    },
    Stage {
        name: "killed",
        what: "processes are killed all the time",
        promise: "waiters get the lock at once, and not too early",
        run: killed::run,
    },
    Stage {
        name: "stopped",
        what: "processes are stopped for a while",
        promise: "a stopped holder keeps its lock, and timeouts still end waits",
        run: stopped::run,
    },
    Stage {
        name: "hung",
        what: "a file system stops answering, and comes back",
        promise: "its locks exclude, and waits for locks elsewhere end on time",
        run: hung::run,
    },
    Stage {
        name: "transactions",
        what: "a program keeps a transaction of the database open for a while",
        promise: "rows exclude, and all waits end on time",
        run: transactions::run,
    },
    Stage {
        name: "forks",
        what: "processes fork while they hold and wait; the children drop everything, or run a program",
        promise: "no child hangs, and no parent loses a lock or a notice",
        run: forks::run,
    },
    Stage {
        name: "hand-off",
        what: "a lock is handed between two processes and down a queue of 64 waiters",
        promise: "no wake-up is lost",
        run: hand_off::run,
    },
    #[cfg(feature = "servers")]
    Stage {
        name: "servers",
        what: "etcd loses leaders, PostgreSQL crashes, connections lose answers, clients are killed and stopped",
        promise: "no two believe to hold a lock at once, and tokens grow",
        run: servers::run,
    },
    #[cfg(feature = "components")]
    Stage {
        name: "attackers",
        what: "hostile guests attack the sandbox, in many ways",
        promise: "see [Attackers](#attackers)",
        run: crate::attacks::run,
    },
    #[cfg(feature = "components")]
    Stage {
        name: "leaks",
        what: "guests end in every way there is",
        promise: "descriptors, threads, files and memory are as before",
        run: leaks::run,
    },
];
