//! The table of queues keeps none longer than it is in use.

use std::path::Path;

use super::*;

fn queue(registry: &Registry, path: &Path, services: &Arc<Services>) -> Arc<LockQueue> {
    let lock_path = LockPath::ambient(path, true, true).expect("the path is absolute");
    let open_lock = lock_path.open().expect("the file can be created");
    registry.queue(open_lock, &lock_path, services)
}

#[test]
fn nothing_is_left_of_files_that_are_not_open_any_more() {
    const AT_A_TIME: usize = 250;
    let dir = tempfile::tempdir().expect("a directory can be created");
    let (registry, services) = (Registry::default(), Services::of_test(0));
    for batch in 0..20_000 / AT_A_TIME {
        let number = |at: usize| dir.path().join((batch * AT_A_TIME + at).to_string());
        let held = (0..AT_A_TIME).map(|at| queue(&registry, &number(at), &services));
        let held: Vec<_> = held.collect();
        assert_eq!(registry.queues.size().0, AT_A_TIME);
        drop(held);
        let (size, room) = registry.queues.size();
        assert_eq!(size, 0);
        assert!(room <= AT_A_TIME, "{room}");
    }
}

#[test]
fn a_queue_that_goes_leaves_the_entry_of_its_successor() {
    let dir = tempfile::tempdir().expect("a directory can be created");
    let path = dir.path().join("lock");
    let (registry, services) = (Registry::default(), Services::of_test(0));
    let first = queue(&registry, &path, &services);
    first.poison();
    let second = queue(&registry, &path, &services);
    assert!(!Arc::ptr_eq(&first, &second));
    drop(first);
    assert!(Arc::ptr_eq(&second, &queue(&registry, &path, &services)));
}
