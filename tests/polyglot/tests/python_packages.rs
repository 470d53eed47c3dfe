//! Packages of Python that lock by `fcntl`, unmodified: each excludes in a component the same package in a
//! native process, and the other way around.

use locket::Mode;
use locket::sandbox::Limits;
use locket_tests::harness::{Host, QUIESCENT};
use locket_tests::process::Process;
use polyglot::host::{Guest, component};
use polyglot::languages::python_packages::{LANGUAGE, PACKAGES, PROGRAM};
use polyglot::root;
use std::fs;
use std::process::Command;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const NAMES: [&str; 4] = ["fasteners", "filelock", "portalocker", "zc.lockfile"];

/// The packages in a process, with their locks in the folder of the host.
fn native(host: &Host) -> Result<Process> {
    let program = root().join(PROGRAM).join("packages.py");
    Ok(Process::spawn(
        Command::new("python3")
            .arg(program)
            .arg(host.dir.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", PACKAGES.folder()?),
    ))
}

fn host() -> Result<Host> {
    let host = Host::new();
    fs::create_dir(host.path("locks"))?;
    Ok(host)
}

async fn guest(host: &Host) -> Result<Guest> {
    Ok(Guest::start(&component(&LANGUAGE.built()?.path)?, host).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_in_a_component_and_in_a_native_process_exclude_each_other() -> Result {
    if !LANGUAGE.is_ready() {
        return Ok(());
    }
    let host = host()?;
    let (mut guest, mut native) = (guest(&host).await?, native(&host)?);
    for package in NAMES {
        let (acquire, release) = (format!("acquire {package}"), format!("release {package}"));
        assert_eq!(guest.run(&acquire).await?, "ok", "{package}");
        assert_eq!(native.ask(&acquire), "held", "{package}");
        assert_eq!(guest.run(&release).await?, "ok", "{package}");
        assert_eq!(native.ask(&acquire), "ok", "{package}");
        assert_eq!(guest.run(&acquire).await?, "held", "{package}");
        assert_eq!(native.ask(&release), "ok", "{package}");
        assert_eq!(guest.run(&acquire).await?, "ok", "{package}");
    }
    drop(guest);
    for package in NAMES {
        assert_eq!(native.ask(&format!("acquire {package}")), "ok", "{package}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_in_components_and_native_processes_lose_no_count() -> Result {
    const ROUNDS: u32 = 100;
    if !LANGUAGE.is_ready() {
        return Ok(());
    }
    let host = host()?;
    for package in NAMES {
        fs::write(host.path(package), "0")?;
        let count = format!("count {package} {ROUNDS}");
        let mut guests = Vec::new();
        for _ in 0..2 {
            let (mut guest, count) = (guest(&host).await?, count.clone());
            guests.push(tokio::spawn(async move { guest.run(&count).await }));
        }
        let mut natives = [native(&host)?, native(&host)?];
        for native in &mut natives {
            native.send(&count);
        }
        for guest in guests {
            assert_eq!(guest.await??, "ok", "{package}");
        }
        for mut native in natives {
            assert_eq!(native.answer(), "ok", "{package}");
        }
        let counted = fs::read_to_string(host.path(package))?;
        assert_eq!(counted, (4 * ROUNDS).to_string(), "{package}");
        println!("{package}: {counted}, exact");
    }
    Ok(())
}

/// The loop that is usual in programs, which waits again after `EINTR`, would never end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_the_host_ends_is_a_timeout() -> Result {
    if !LANGUAGE.is_ready() {
        return Ok(());
    }
    let host = host()?;
    let limits = Limits::new().longest_wait(Some(QUIESCENT));
    let ctx = host.ctx().limits(limits).build();
    let component = component(&LANGUAGE.built()?.path)?;
    let mut guest = Guest::start_with(&component, &host, ctx).await?;
    let mut native = native(&host)?;
    for (function, package) in [("flock", "filelock"), ("lockf", "fasteners")] {
        assert_eq!(native.ask(&format!("acquire {package}")), "ok");
        let wait = format!("wait {function} {package}");
        assert_eq!(guest.run(&wait).await?, "timeout");
        assert_eq!(native.ask(&format!("release {package}")), "ok");
        assert_eq!(guest.run(&wait).await?, "ok");
    }
    Ok(())
}

/// A second lock in the same mode does nothing, but says whether the first one still holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_the_host_has_revoked_is_not_held() -> Result {
    if !LANGUAGE.is_ready() {
        return Ok(());
    }
    let host = host()?;
    fs::write(host.path("revoked"), "")?;
    let limits = Limits::new().longest_hold(Some(QUIESCENT));
    let ctx = host.ctx().limits(limits).build();
    let component = component(&LANGUAGE.built()?.path)?;
    let mut guest = Guest::start_with(&component, &host, ctx).await?;
    assert_eq!(guest.run("relock").await?, "ok");
    let lock = host.locks.open(host.path("revoked"))?;
    let guard = lock.acquire_async(Mode::Exclusive, None).await?;
    assert_eq!(guest.run("relock").await?, "lost");
    drop(guard);
    assert_eq!(guest.run("relock").await?, "ok");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_native_program_sees_the_bytes_that_a_component_has_locked() -> Result {
    if !LANGUAGE.is_ready() {
        return Ok(());
    }
    let host = host()?;
    let mut guest = guest(&host).await?;
    assert_eq!(guest.run("lock 10 20").await?, "ok");
    let found = |at: u32| {
        let body = format!(
            "import fcntl, struct, sys\n\
             lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, {at}, 1, 0)\n\
             found = fcntl.fcntl(open(sys.argv[1], 'r+'), fcntl.F_GETLK, lock)\n\
             kind, _, start, length, _ = struct.unpack('hhqqi4x', found)\n\
             print('free' if kind == fcntl.F_UNLCK else f'{{start}} {{length}}', flush=True)\n"
        );
        Process::python(&body, &host.path("ranges")).answer()
    };
    assert_eq!(
        [9, 10, 29, 30].map(found),
        ["free", "10 20", "10 20", "free"]
    );
    assert_eq!(guest.run("lock 0 0").await?, "ok");
    assert_eq!(found(1000), "0 0");
    drop(guest);
    assert_eq!(found(10), "free");
    Ok(())
}
