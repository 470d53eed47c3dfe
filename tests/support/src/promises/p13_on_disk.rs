//! Promise 13: Each protocol is on disk what other programs expect. The content of a lock file is
//! never read or changed, except by the protocols whose file is the lock; theirs is gone after the
//! release.

use std::fs;

use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    if stand.is_kernel_lock() {
        a_missing_file_is_created_empty(stand);
        what_is_in_the_file_stays(stand);
    } else {
        #[cfg(unix)]
        an_existence_lock_is_there_while_it_is_held(stand);
    }
}

fn a_missing_file_is_created_empty(stand: &dyn Stand) {
    let dir = &stand.site().dir;
    let mut subject = stand.subject();
    subject.ok("acquire a exclusive none");
    let created = fs::metadata(dir.path("lock")).expect("the lock file exists");
    assert_eq!(created.len(), 0);
    // With the permissions of any file: 0666 less the umask.
    fs::write(dir.path("other"), "").expect("a file can be created");
    let other = fs::metadata(dir.path("other")).expect("the file exists");
    assert_eq!(created.permissions(), other.permissions());
    subject.ok("release a");
}

fn what_is_in_the_file_stays(stand: &dyn Stand) {
    let path = stand.site().lock_path();
    fs::write(&path, "precious").expect("the lock file can be written");
    let modified = || fs::metadata(&path).and_then(|file| file.modified());
    let before = modified().expect("the system has the time");
    let (mut holder, mut other) = (stand.subject(), stand.subject());
    holder.ok("acquire a exclusive none");
    assert_eq!(other.err("acquire a exclusive 0"), "would-block");
    assert_eq!(other.ok("is-locked a"), "true");
    other.ok("holder a");
    holder.ok("release a");
    let content = fs::read_to_string(&path).expect("the lock file can be read");
    assert_eq!(content, "precious");
    assert_eq!(modified().expect("the system has the time"), before);
}

#[cfg(unix)]
fn an_existence_lock_is_there_while_it_is_held(stand: &dyn Stand) {
    let mut subject = stand.subject();
    let before = stand.site().dir.names();
    subject.ok("acquire a exclusive 0");
    is_on_disk(stand, &*subject);
    subject.ok("release a");
    assert_eq!(stand.site().dir.names(), before, "nothing is left behind");
}

#[cfg(unix)]
fn is_on_disk(stand: &dyn Stand, holder: &dyn crate::subject::Subject) {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use locket::Protocol;

    let dir = &stand.site().dir;
    let (file, beside) = (dir.path("lock"), dir.path("lock.lock"));
    let stat = |path: &Path| fs::symlink_metadata(path).expect("the lock exists");
    let read = || fs::read_to_string(&file).expect("the lock can be read");
    let pid = format!("{}\n", holder.pid());
    match stand.protocol() {
        Protocol::Link => {
            // The other of the two is the holder's own file.
            assert!(stat(&beside).is_file() && stat(&beside).len() == 0);
            assert_eq!(stat(&beside).nlink(), 2);
        }
        Protocol::Symlink => {
            let target = fs::read_link(&beside).expect("the lock is a link");
            assert!(target.is_relative() && !dir.0.path().join(target).exists());
        }
        Protocol::Mkdir => {
            let inside = fs::read_dir(&beside).expect("the lock is a directory");
            let lengths = inside.map(|entry| entry.and_then(|entry| entry.metadata()));
            let lengths = lengths.map(|metadata| metadata.expect("the entry is there").len());
            assert_eq!(lengths.collect::<Vec<_>>(), [0]);
        }
        Protocol::PidFile => assert_eq!(read(), pid),
        Protocol::Soft => {
            let record = read();
            let whole = record.starts_with(&pid) && record.ends_with('\n');
            assert!(whole, "{record:?}");
        }
        _ => assert!(!file.exists() && !beside.exists()),
    }
}
