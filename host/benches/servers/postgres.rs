//! PostgreSQL: statements of its client, and `psql`.

use std::process::Stdio;

use locket_test_support::servers::postgres::Postgres;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

use crate::crowd::{self, Watched};
use crate::etcd::open;
use crate::hand_off::{hand_off, ours};
use crate::measure::{Contestant, compare};
use crate::report::Report;
use crate::{EX, Plan};

/// The server of the tests takes no more.
const SESSIONS: usize = 150;

/// A session with statements of its own.
pub(crate) struct Raw {
    runtime: Runtime,
    client: Client,
}

impl Raw {
    pub(crate) fn new(url: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    fn run(&mut self, sql: &str) {
        self.runtime
            .block_on(self.client.simple_query(sql))
            .unwrap();
    }
}

fn waiting(server: &Postgres) -> bool {
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    server.sql(sql) == "1"
}

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    let Some(server) = Postgres::start(&[]) else {
        return report.skip("PostgreSQL", "not installed");
    };
    let url = server.url("postgres");
    free(plan, report, &server, &url);
    handed(plan, report, &server, &url);
    let requests = || {
        let sql = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database";
        server.sql(sql).parse().unwrap()
    };
    let processes = || {
        let sql = "SELECT string_agg(pid::text, ' ') FROM pg_locks \
                   WHERE locktype = 'advisory' AND NOT granted";
        let numbers = server.sql(sql);
        numbers.split(' ').map(|pid| pid.parse().unwrap()).collect()
    };
    let watched = |crowd, count| Watched {
        crowd,
        count,
        server: &url,
        requests: &requests,
        processes: &processes,
    };
    let held = open(&url, "crowd").acquire(EX, None).unwrap();
    let title = "PostgreSQL: 1,000 tasks of a process wait for one lock";
    report.add(crowd::watch(plan, title, watched("postgres-ours", 1000)));
    drop(held);
    let mut holder = Raw::new(&url);
    holder.run("SELECT pg_advisory_lock(1)");
    let title = format!("PostgreSQL: {SESSIONS} sessions of a process wait for one lock");
    let crowd = watched("postgres-sessions", SESSIONS);
    report.add(crowd::watch(plan, &title, crowd));
}

fn free(plan: &Plan, report: &mut Report, server: &Postgres, url: &str) {
    let mut raw = Raw::new(url);
    let ours = open(url, "free");
    let without = open(&format!("{url}?fencing=off"), "without");
    let mut psql = server.psql();
    let both = "SELECT pg_try_advisory_lock(2), pg_advisory_unlock(2)";
    let contestants = vec![
        Contestant::batch("two statements of its client", 20, move |count| {
            for _ in 0..count {
                raw.run("SELECT pg_try_advisory_lock(1)");
                raw.run("SELECT pg_advisory_unlock(1)");
            }
        }),
        Contestant::batch("ours", 20, move |count| {
            for _ in 0..count {
                ours.acquire(EX, None).unwrap().release().unwrap();
            }
        }),
        Contestant::batch("ours, without tokens", 20, move |count| {
            for _ in 0..count {
                without.acquire(EX, None).unwrap().release().unwrap();
            }
        }),
        Contestant::batch("psql, a session for all turns", 20, move |count| {
            for _ in 0..count {
                psql.ask("SELECT pg_try_advisory_lock(3)");
                psql.ask("SELECT pg_advisory_unlock(3)");
            }
        }),
        Contestant::batch("psql -c, a process", 1, |count| {
            for _ in 0..count {
                let mut psql = server.psql_command();
                psql.args(["-c", both]).stdout(Stdio::null());
                assert!(psql.status().unwrap().success());
            }
        }),
    ];
    let title = "PostgreSQL: acquire and release of a free lock";
    report.add(compare(title, plan.rounds(60), contestants));
}

fn handed(plan: &Plan, report: &mut Report, server: &Postgres, url: &str) {
    let raws = [Raw::new(url), Raw::new(url)].map(std::sync::Mutex::new);
    let run = |number: usize, sql: &str| raws[number].lock().unwrap().run(sql);
    let (here, there, within) = (open(url, "two"), open(url, "two"), open(url, "one"));
    let contestants = vec![
        Contestant::new("statements of its client", |samples| {
            samples.push(hand_off(
                || run(0, "SELECT pg_advisory_lock(1)"),
                || waiting(server),
                |()| run(0, "SELECT pg_advisory_unlock(1)"),
                || run(1, "SELECT pg_advisory_lock(1)"),
                |()| run(1, "SELECT pg_advisory_unlock(1)"),
            ));
        }),
        Contestant::new("ours, two clients", |samples| {
            samples.push(ours(&here, &there, || waiting(server)));
        }),
        Contestant::new("ours, two threads of a process", |samples| {
            samples.push(ours(&within, &within, || true));
        }),
    ];
    let title = "PostgreSQL: hand-off, from the call of the release to the next holder";
    report.add(compare(title, plan.rounds(60), contestants));
}
