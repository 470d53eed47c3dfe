//! etcd: transactions of its own client, its lock service, and `etcdctl lock`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use etcd_client::{
    Client, Compare, CompareOp, EventType, LockOptions, PutOptions, Txn, TxnOp, WatchOptions,
};
use locket::{Engine, LockFile, Remote};
use locket_test_support::servers::etcd::Etcd;
use tokio::runtime::{Builder, Runtime};

use crate::crowd::{self, Watched};
use crate::hand_off::{hand_off, ours};
use crate::measure::{Contestant, compare};
use crate::report::Report;
use crate::{EX, Plan, peer};

/// Longer than any of this takes, so that no lease is renewed meanwhile.
const LEASE: i64 = 3600;

/// A client with requests of its own.
pub(crate) struct Raw {
    runtime: Runtime,
    client: Client,
    lease: i64,
}

impl Raw {
    pub(crate) fn new(address: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (client, lease) = runtime.block_on(async {
            let mut client = Client::connect([address], None).await.unwrap();
            let lease = client.lease_grant(LEASE, None).await.unwrap().id();
            (client, lease)
        });
        Self {
            runtime,
            client,
            lease,
        }
    }

    /// Adds the key if it is not there; the revision.
    fn put(&mut self, key: &str) -> Result<(), i64> {
        let put = PutOptions::new().with_lease(self.lease);
        let txn = Txn::new()
            .when([Compare::create_revision(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, "", Some(put))]);
        let answer = self.runtime.block_on(self.client.txn(txn)).unwrap();
        match answer.succeeded() {
            true => Ok(()),
            false => Err(answer.header().unwrap().revision()),
        }
    }

    fn delete(&mut self, key: &str) {
        self.runtime
            .block_on(self.client.delete(key, None))
            .unwrap();
    }

    /// Watches the key of a holder until it is deleted, and adds its own.
    fn wait(&mut self, key: &str) {
        while let Err(revision) = self.put(key) {
            let options = WatchOptions::new().with_start_revision(revision + 1);
            let watch = self.client.watch(key, Some(options));
            self.runtime.block_on(async {
                let mut watch = watch.await.unwrap();
                let deleted = |event: &etcd_client::Event| event.event_type() == EventType::Delete;
                while !watch
                    .message()
                    .await
                    .unwrap()
                    .unwrap()
                    .events()
                    .iter()
                    .any(deleted)
                {}
            });
        }
    }

    /// By the lock service of the server.
    fn lock(&mut self, name: &str) -> Vec<u8> {
        let options = LockOptions::new().with_lease(self.lease);
        let lock = self.client.lock(name, Some(options));
        self.runtime.block_on(lock).unwrap().key().to_vec()
    }

    fn unlock(&mut self, key: Vec<u8>) {
        self.runtime.block_on(self.client.unlock(key)).unwrap();
    }

    /// How many keys begin so.
    fn count(&mut self, prefix: &str) -> i64 {
        let options = etcd_client::GetOptions::new()
            .with_prefix()
            .with_count_only();
        let get = self.client.get(prefix, Some(options));
        self.runtime.block_on(get).unwrap().count()
    }
}

/// Requests that the server has had, streams by the message.
fn requests(address: &str) -> u64 {
    let mut server = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    server.write_all(request.as_bytes()).unwrap();
    let mut metrics = String::new();
    server.read_to_string(&mut metrics).unwrap();
    let counts = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("grpc_server_msg_received_total{")?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    counts.sum::<f64>() as u64
}

/// A lock as another process has it.
pub(crate) fn open(url: &str, name: &str) -> LockFile {
    let remote = Remote::new(url).unwrap();
    Engine::new().open_remote(&remote, name).unwrap()
}

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    let Some(cluster) = Etcd::start(1) else {
        return report.skip("etcd", "not installed; tests/peers installs it");
    };
    let address = cluster.addresses()[0].clone();
    let url = cluster.url("locks");
    free(plan, report, &cluster, &address, &url);
    handed(plan, report, &cluster, &address, &url);
    let asked = || requests(&address);
    let watched = |crowd, count| Watched {
        crowd,
        count,
        server: &address,
        requests: &asked,
        processes: &Vec::new,
    };
    let held = open(&url, "crowd").acquire(EX, None).unwrap();
    report.add(crowd::watch(
        plan,
        "etcd: 1,000 tasks of a process wait for one lock",
        watched("etcd-ours", 1000),
    ));
    drop(held);
    let mut holder = Raw::new(&address);
    let key = holder.lock("crowd");
    report.add(crowd::watch(
        plan,
        "etcd: 1,000 tasks of a process wait in its lock service, each with a lease",
        watched("etcd-service", 1000),
    ));
    holder.unlock(key);
    let held = open(&url, "crowd").acquire(EX, None).unwrap();
    let waiters: Vec<_> = (0..CTLS)
        .map(|_| {
            let mut ctl = cluster.ctl();
            ctl.args(["lock", "/locks/crowd", "--", "true"]);
            ctl.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    while holder.count("/locks/crowd/") <= CTLS as i64 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let title = format!("etcd: {CTLS} processes of etcdctl wait for one lock");
    let processes: Vec<_> = waiters.iter().map(std::process::Child::id).collect();
    report.add(crowd::watch_processes(plan, &title, &processes, &asked));
    for mut waiter in waiters {
        waiter.kill().unwrap();
        waiter.wait().unwrap();
    }
    drop(held);
}

/// As many as a small machine takes.
const CTLS: usize = 50;

fn free(plan: &Plan, report: &mut Report, cluster: &Etcd, address: &str, url: &str) {
    let (mut raw, mut service) = (Raw::new(address), Raw::new(address));
    let ours = open(url, "free");
    let mut contestants = vec![
        Contestant::batch("two transactions of its client", 20, move |count| {
            for _ in 0..count {
                raw.put("raw").unwrap();
                raw.delete("raw");
            }
        }),
        Contestant::batch("ours", 20, move |count| {
            for _ in 0..count {
                ours.acquire(EX, None).unwrap().release().unwrap();
            }
        }),
        Contestant::batch("its lock service", 20, move |count| {
            for _ in 0..count {
                let key = service.lock("service");
                service.unlock(key);
            }
        }),
        Contestant::batch("etcdctl lock NAME true, a process", 1, |count| {
            for _ in 0..count {
                let mut ctl = cluster.ctl();
                ctl.args(["lock", "/locks/ctl", "--", "true"]);
                assert!(ctl.status().unwrap().success());
            }
        }),
    ];
    match peer::start(address) {
        Some(mut python) => contestants.push(Contestant::new("etcd3, Python", move |samples| {
            samples.push(peer::turn(&mut python, 20));
        })),
        None => report.skip("etcd3", "not installed; tests/peers installs it"),
    }
    let title = "etcd: acquire and release of a free lock";
    report.add(compare(title, plan.rounds(60), contestants));
}

fn handed(plan: &Plan, report: &mut Report, cluster: &Etcd, address: &str, url: &str) {
    let raws = [Raw::new(address), Raw::new(address), Raw::new(address)];
    let [mut one, mut two, looks] = raws;
    let looks = std::sync::Mutex::new(looks);
    let count = |prefix: &str| looks.lock().unwrap().count(prefix);
    let services = [Raw::new(address), Raw::new(address)];
    let [mut first, mut second] = services;
    let (here, there, within) = (open(url, "two"), open(url, "two"), open(url, "one"));
    let to_ctl = open(url, "ctl");
    let contestants = vec![
        Contestant::new("transactions and a watch of its client", |samples| {
            samples.push(hand_off(
                || one.put("raw").unwrap(),
                // It is not seen in any queue.
                || true,
                |()| looks.lock().unwrap().delete("raw"),
                || two.wait("raw"),
                |()| looks.lock().unwrap().delete("raw"),
            ));
        }),
        Contestant::new("ours, two clients", |samples| {
            samples.push(ours(&here, &there, || count("/locks/two/") == 2));
        }),
        Contestant::new("its lock service", |samples| {
            samples.push(hand_off(
                || first.lock("service"),
                || count("service/") == 2,
                |key| looks.lock().unwrap().unlock(key),
                || second.lock("service"),
                |key| looks.lock().unwrap().unlock(key),
            ));
        }),
        Contestant::new("ours to etcdctl, whose command has begun", |samples| {
            samples.push(hand_off(
                || to_ctl.acquire(EX, None).unwrap(),
                || count("/locks/ctl/") == 2,
                |guard| guard.release().unwrap(),
                || {
                    let mut ctl = cluster.lock("/locks/ctl", 60);
                    ctl.held();
                    ctl
                },
                |ctl| ctl.release(),
            ));
        }),
        Contestant::new("ours, two threads of a process", |samples| {
            samples.push(ours(&within, &within, || true));
        }),
    ];
    let title = "etcd: hand-off, from the call of the release to the next holder";
    report.add(compare(title, plan.rounds(60), contestants));
}
