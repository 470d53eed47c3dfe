//! What is known of a file system by its name and options: which processes its locks and names
//! can exclude. Two processes of one host cannot find that out.

use locket::Protocol;

use super::mount::Mount;

/// Which processes something excludes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// All who can reach the file.
    All,
    /// Processes of this host, and no others as far as is known, for this reason.
    Host(&'static str),
    /// Not even those, for this reason.
    Nothing(&'static str),
}

/// What is known.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub(super) flock: Scope,
    pub(super) record: Scope,
    /// Creating, linking and renaming.
    pub(super) names: Scope,
    /// Whether other hosts may use the files.
    pub(super) has_other_hosts: bool,
    /// Whether the two families of locks are one, for which `native` then takes `flock` alone.
    pub(super) one_family: bool,
    /// What else there is to know.
    pub(super) notes: Vec<&'static str>,
}

impl Meaning {
    fn new(flock: Scope, record: Scope, names: Scope) -> Self {
        Self {
            flock,
            record,
            names,
            has_other_hosts: true,
            one_family: false,
            notes: Vec::new(),
        }
    }

    fn all() -> Self {
        Self::new(Scope::All, Scope::All, Scope::All)
    }

    /// That of a file system of this host.
    fn local() -> Self {
        Self {
            has_other_hosts: false,
            ..Self::all()
        }
    }

    /// Locks of both families, but not names, are those of this host.
    fn locks_of_host(why: &'static str) -> Self {
        Self::new(Scope::Host(why), Scope::Host(why), Scope::All)
    }

    fn of_host(why: &'static str) -> Self {
        Self::new(Scope::Host(why), Scope::Host(why), Scope::Host(why))
    }

    fn with(mut self, note: &'static str) -> Self {
        self.notes.push(note);
        self
    }

    fn with_if(self, condition: bool, note: &'static str) -> Self {
        if condition { self.with(note) } else { self }
    }

    /// The scope of a protocol.
    pub(super) fn scope(&self, protocol: Protocol) -> &Scope {
        const DATABASE: &Scope = &Scope::Host("SQLite is for the processes of one host");
        match protocol {
            Protocol::Native => self.native(),
            Protocol::Flock => &self.flock,
            Protocol::Sqlite if self.has_other_hosts && self.record == Scope::All => DATABASE,
            Protocol::Fcntl | Protocol::Sqlite => &self.record,
            _ => &self.names,
        }
    }

    fn native(&self) -> &Scope {
        match (&self.flock, &self.record) {
            (Scope::Host(_), Scope::All) if !self.one_family => &self.record,
            _ => &self.flock,
        }
    }

    pub(super) fn of(mount: &Mount) -> Self {
        match mount.kind.as_str() {
            "nfs" | "nfs4" => nfs(mount),
            "cifs" | "smb3" | "smbfs" => smb(mount),
            kind if kind.starts_with("smb of ") => smb(mount),
            "lustre" => lustre(mount),
            "gpfs" => Self::new(Scope::Host(GPFS), Scope::All, Scope::All),
            "gfs2" if mount.has("localflocks") || mount.has("lockproto=lock_nolock") => {
                Self::locks_of_host("`localflocks` or `lock_nolock` keeps locks on this host")
            }
            "ocfs2" => ocfs2(mount),
            "afs" => afs(mount),
            "beegfs" => Self::locks_of_host(BEEGFS),
            "ceph" | "fuse.ceph-fuse" | "fuse.ceph" => Self::all().with(CEPH),
            "gfs2" | "fuse.glusterfs" | "fuse.juicefs" | "fuse.moosefs" | "fuse.mfs" => Self::all(),
            "9p" => Self::locks_of_host(PLAN9),
            "virtiofs" => Self::locks_of_host(VIRTIOFS),
            "fakeowner" => Self::new(
                Scope::Nothing(DOCKER_DESKTOP),
                Scope::Nothing(DOCKER_DESKTOP),
                Scope::Host(DOCKER_DESKTOP),
            ),
            "vboxsf" | "prl_fs" | "fuse.vmhgfs-fuse" | "fuse.grpcfuse" | "fuse.osxfs" => {
                Self::of_host(SHARED_FOLDER)
            }
            "fuse.sshfs" => Self::locks_of_host("sshfs sends no locks to the server"),
            kind if is_object_store(kind, mount) => Self::of_host(OBJECTS),
            "overlay" | "aufs" => Self::local().with(LAYERS),
            kind if LAYERED_PROGRAMS.contains(&kind) => Self::of_host(FUSE).with(LAYERS),
            "fuseblk" => Self::local(),
            kind if kind == "fuse" || kind.starts_with("fuse.") => Self::of_host(FUSE),
            kind if mount.on_device || LOCAL.contains(&kind) => Self::local(),
            _ => Self::of_host("whether other hosts use this kind of file system is not known"),
        }
    }
}

/// Those without a block device.
const LOCAL: &[&str] = &[
    "tmpfs",
    "ramfs",
    "btrfs",
    "zfs",
    "bcachefs",
    "ubifs",
    "devtmpfs",
    "hugetlbfs",
];

/// Programs that show the files of another directory of the same host.
const LAYERED_PROGRAMS: &[&str] = &[
    "fuse.bindfs",
    "fuse.cryfs",
    "fuse.encfs",
    "fuse.fuse-overlayfs",
    "fuse.gocryptfs",
    "fuse.mergerfs",
    "fuse.unionfs",
];

const LAYERS: &str = "locks are kept apart from those on the layers below: a process that reaches a \
    file by another path, or another container by an overlay of its own, is not excluded";
const GPFS: &str = "GPFS keeps `flock` on each node";
const BEEGFS: &str = "BeeGFS keeps locks on each host, unless `tuneUseGlobalFileLocks` is set";
const CEPH: &str = "a host that the cluster cuts off loses its locks without being told";
const PLAN9: &str =
    "9P servers such as that of QEMU grant every lock, so only this kernel excludes";
const VIRTIOFS: &str =
    "virtiofsd keeps no locks by default, so only the kernel of this machine excludes";
const DOCKER_DESKTOP: &str = "Docker Desktop can show one file as two, with locks of their own";
const SHARED_FOLDER: &str = "folders of virtual machines send no locks to their host";
const OBJECTS: &str = "an object store has no locks, and no atomic creation";
const FUSE: &str = "other hosts are known only to the program behind FUSE";

fn is_object_store(kind: &str, mount: &Mount) -> bool {
    const KINDS: &[&str] = &[
        "fuse.blobfuse",
        "fuse.blobfuse2",
        "fuse.gcsfuse",
        "fuse.geesefs",
        "fuse.goofys",
        "fuse.mountpoint-s3",
        "fuse.rclone",
        "fuse.s3fs",
    ];
    KINDS.contains(&kind)
        || kind == "fuse" && matches!(mount.source.as_deref(), Some("mountpoint-s3" | "s3fs"))
}

fn nfs(mount: &Mount) -> Meaning {
    const LOCAL: &str = "`nolock` or `local_lock` keeps these locks on this host";
    let version = mount.value("vers").unwrap_or_default();
    let keeps = |family: &str| {
        let local = mount.value("local_lock");
        let nolock = mount.has("nolock") && local.is_none();
        nolock || local == Some("all") || local == Some(family)
    };
    let scope = |family| {
        if keeps(family) {
            Scope::Host(LOCAL)
        } else {
            Scope::All
        }
    };
    let names = match version {
        "2" => Scope::Host("NFS 2 has no exclusive creation"),
        _ => Scope::All,
    };
    let meaning = Meaning {
        one_family: true,
        ..Meaning::new(scope("flock"), scope("posix"), names)
    };
    meaning
        .with_if(
            version.starts_with('4'),
            "NFS 4 locks have a lease: a host that is cut off for longer loses them",
        )
        .with_if(
            version.starts_with('3') && !keeps("posix"),
            "NFS 3 locks take a lock manager on the server, without which they hang unless `nolock` keeps \
             them on this host; those of a host that crashed stay until it is back",
        )
        .with_if(
            !keeps("flock"),
            "`flock` on NFS is a record lock, and excludes no users of `flock` on the server itself",
        )
}

fn smb(mount: &Mount) -> Meaning {
    let meaning = match mount.has("nobrl") {
        true => Meaning::locks_of_host("`nobrl` sends no locks to the server"),
        false => Meaning::all().with(
            "SMB locks are mandatory: others can neither read nor write what is locked exclusively",
        ),
    };
    Meaning {
        one_family: true,
        ..meaning
    }
    .with_if(mount.has("nolease"), "`nolease` has no effect on locks")
    .with_if(
        mount.has("cache=loose"),
        "`cache=loose` lets this host read old content",
    )
    .with_if(
        mount.has("noserverino"),
        "`noserverino` makes up inode numbers, by which Locket recognizes a file",
    )
}

fn lustre(mount: &Mount) -> Meaning {
    if mount.has("localflock") {
        Meaning::locks_of_host("`localflock` keeps locks on this host")
    } else if mount.has("noflock") {
        Meaning::all().with("`noflock` refuses locks; mount with `flock` to have them")
    } else {
        Meaning::all()
    }
}

fn ocfs2(mount: &Mount) -> Meaning {
    const RECORD: &str =
        "OCFS2 keeps record locks on this host, unless a cluster manager is in use";
    match mount.has("localflocks") {
        true => Meaning::locks_of_host("`localflocks` keeps locks on this host"),
        false => Meaning::new(Scope::All, Scope::Host(RECORD), Scope::All),
    }
}

fn afs(mount: &Mount) -> Meaning {
    match mount.value("flock") {
        Some("local") => Meaning::locks_of_host("`flock=local` keeps locks on this host"),
        Some("openafs") => Meaning::new(
            Scope::All,
            Scope::Host("`flock=openafs` keeps locks of ranges on this host"),
            Scope::All,
        ),
        _ => Meaning::all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(kind: &str, source: &str, options: &str) -> Meaning {
        let options = options.split(',').map(str::to_owned).collect();
        Meaning::of(&Mount {
            kind: kind.into(),
            source: Some(source.into()),
            options,
            on_device: source.starts_with("/dev/"),
            ..Mount::default()
        })
    }

    #[test]
    fn the_name_and_the_options_say_which_processes_locks_exclude() {
        // Which processes `flock`, `fcntl`, `link` and `native` exclude: all, those on this host, or nothing.
        let cases = [
            ("ext4", "/dev/vda", "rw", "a a a a"),
            ("tmpfs", "tmpfs", "rw", "a a a a"),
            ("overlay", "overlay", "rw", "a a a a"),
            ("fuseblk", "/dev/sdb1", "rw", "a a a a"),
            ("nfs4", "s:/", "rw,vers=4.2,local_lock=none", "a a a a"),
            ("nfs", "s:/", "rw,vers=3,local_lock=none", "a a a a"),
            ("nfs", "s:/", "rw,vers=3,nolock,local_lock=all", "h h a h"),
            ("nfs", "s:/", "rw,vers=3,nolock", "h h a h"),
            ("nfs", "s:/", "rw,vers=3,local_lock=flock", "h a a h"),
            ("nfs", "s:/", "rw,vers=3,local_lock=posix", "a h a a"),
            ("nfs", "s:/", "rw,vers=2,local_lock=none", "a a h a"),
            ("cifs", "//s/x", "rw,vers=3.1.1", "a a a a"),
            ("cifs", "//s/x", "rw,vers=3.1.1,nolease", "a a a a"),
            ("smb3", "//s/x", "rw,nobrl", "h h a h"),
            ("lustre", "s:/x", "rw,flock", "a a a a"),
            ("lustre", "s:/x", "rw,localflock", "h h a h"),
            ("gpfs", "gpfs", "rw", "h a a a"),
            ("gfs2", "/dev/vdb", "rw", "a a a a"),
            ("gfs2", "/dev/vdb", "rw,localflocks", "h h a h"),
            ("ocfs2", "/dev/vdb", "rw", "a h a a"),
            ("afs", "%x", "rw,flock=openafs", "a h a a"),
            ("ceph", "s:/", "rw", "a a a a"),
            ("9p", "share", "rw,trans=virtio", "h h a h"),
            ("virtiofs", "share", "rw", "h h a h"),
            ("fakeowner", "grpcfuse", "rw", "n n h n"),
            ("fuse.sshfs", "s:", "rw", "h h a h"),
            ("fuse.gcsfuse", "bucket", "rw", "h h h h"),
            ("fuse.s3fs", "s3fs", "rw", "h h h h"),
            ("fuse", "mountpoint-s3", "rw", "h h h h"),
            ("fuse.bindfs", "/x", "rw", "h h h h"),
            ("fuse.glusterfs", "s:x", "rw", "a a a a"),
            ("fuse.other", "x", "rw", "h h h h"),
            ("unheard-of", "x", "rw", "h h h h"),
        ];
        for (kind, source, options, expected) in cases {
            let meaning = meaning(kind, source, options);
            let letter = |scope: &Scope| match scope {
                Scope::All => "a",
                Scope::Host(_) => "h",
                Scope::Nothing(_) => "n",
            };
            let protocols = [
                Protocol::Flock,
                Protocol::Fcntl,
                Protocol::Link,
                Protocol::Native,
            ];
            let letters = protocols.map(|protocol| letter(meaning.scope(protocol)));
            assert_eq!(letters.join(" "), expected, "{kind} {options}");
        }
    }

    #[test]
    fn options_that_matter_are_explained() {
        let notes = |kind, options| meaning(kind, "x", options).notes.concat();
        assert!(notes("nfs4", "vers=4.2").contains("lease"));
        assert!(notes("nfs", "vers=3").contains("stay"));
        assert!(!notes("nfs", "vers=3,nolock").contains("stay"));
        assert!(notes("cifs", "nolease").contains("no effect"));
        assert!(notes("cifs", "noserverino").contains("inode"));
        assert!(notes("lustre", "noflock").contains("`flock`"));
        assert!(notes("overlay", "").contains("layers"));
    }
}
