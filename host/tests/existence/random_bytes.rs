//! Random bytes, and records with a few bytes changed.

use super::*;

/// Random numbers that are the same in each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let product = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        (product >> 33) as usize % below
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }

    pub(crate) fn bytes(&mut self, alphabet: &[u8], most: usize) -> Vec<u8> {
        (0..self.roll(most + 1))
            .map(|_| self.pick(alphabet))
            .collect()
    }

    /// `text` with a few of its bytes changed, removed, doubled or cut off.
    pub(crate) fn corrupt(&mut self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        for _ in 0..self.roll(4) {
            if text.is_empty() {
                break;
            }
            let at = self.roll(text.len());
            match self.roll(6) {
                0 => text[at] = self.roll(256) as u8,
                1 => text[at] = self.pick(b"0123456789"),
                2 => _ = text.remove(at),
                3 => text.insert(at, text[at]),
                4 => text.insert(at, self.pick(b"0123456789-.?\n")),
                _ => text.truncate(at),
            }
        }
        text
    }
}

/// What the rules say of a record, as it is read here: whether its holder is dead. None if that is not
/// certain, since processes come and go.
pub(crate) fn is_dead(protocol: Protocol, text: &[u8]) -> Option<bool> {
    // The holder itself says so.
    if protocol == Protocol::Soft && text == b"filelock/released\n" {
        return Some(true);
    }
    let mine = Record::mine();
    if protocol == Protocol::Soft && is_unclear(text, &mine) {
        return None;
    }
    let Some((record, judged)) = read(protocol, text) else {
        return Some(false);
    };
    if record.host != mine.host {
        return Some(false);
    }
    let known = |boot| boot != 0 && record.ticks != 0;
    if known(record.boot) && record.boot != mine.boot {
        return Some(true);
    }
    if record.namespace != mine.namespace || !judged {
        return Some(false);
    }
    // A process that has ended keeps its number until its parent has waited for it.
    let stat = fs::read_to_string(format!("/proc/{}/stat", record.pid));
    if stat.is_ok_and(|stat| stat.contains(") Z ")) {
        return None;
    }
    let start = start(record.pid);
    // A thread has a number, but no folder in `/proc`.
    match start {
        None => None,
        Some(ticks) if record.ticks == 0 || ticks == record.ticks => Some(false),
        Some(_) if protocol == Protocol::Soft && has_inner(record.pid) => None,
        Some(_) => Some(true),
    }
}

/// Whether a process in an inner namespace has the number, and may have written it there.
fn has_inner(pid: u32) -> bool {
    let processes = fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let statuses = processes.filter_map(|of| fs::read_to_string(of.path().join("status")).ok());
    let numbers = |status: String| {
        let line = status.lines().find(|line| line.starts_with("NSpid:"))?;
        let numbers = line.split_whitespace().skip(1).map(|n| n.parse().ok());
        numbers.collect::<Option<Vec<u32>>>()
    };
    let mut all = statuses.filter_map(numbers);
    all.any(|numbers| numbers.len() > 1 && numbers.last() == Some(&pid))
}

/// Whether a record may be of another boot of this host, which proves a death in any namespace, but
/// says so in another form than this process would.
fn is_unclear(text: &[u8], mine: &Record) -> bool {
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    let [_, host, start, b""] = lines.as_slice() else {
        return false;
    };
    let ours = mine.text();
    let number = std::str::from_utf8(start).unwrap_or_default();
    number.parse::<u64>().is_err()
        && (host.contains(&b'?') || *host == mine.host.as_bytes())
        && ours.lines().nth(1).map(str::as_bytes) != Some(host)
}

/// Reads a record, and whether one of this host may be judged by the number of its process.
pub(crate) fn read(protocol: Protocol, text: &[u8]) -> Option<(Record, bool)> {
    let text = std::str::from_utf8(text).ok()?;
    let pid = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let pid = plain.then(|| digits.parse::<i32>().ok()).flatten()?;
        u32::try_from(pid).ok().filter(|pid| *pid > 0)
    };
    let mine = Record::mine();
    let plain = |host: &str, pid| Record {
        host: host.into(),
        pid,
        boot: 0,
        namespace: INITIAL_NAMESPACE,
        ticks: 0,
    };
    match protocol {
        Protocol::PidFile => Some((plain(&mine.host, pid(text.strip_suffix('\n')?)?), true)),
        Protocol::Soft => {
            let lines: Vec<_> = text.strip_suffix('\n')?.split('\n').collect();
            let (number, host) = (pid(lines.first()?)?, *lines.get(1)?);
            // A host name in any other form is another host.
            let mut record = plain(host, number);
            let ours = mine.text();
            if ours.lines().nth(1) == Some(host) {
                record.host.clone_from(&mine.host);
                record.namespace = mine.namespace;
            }
            match lines.len() {
                2 => {}
                3 if !lines[2].is_empty() && lines[2].bytes().all(|b| b.is_ascii_digit()) => {
                    let digits = lines[2].trim_start_matches('0');
                    // A number of more than 192 bits is invalid.
                    let most = decimal(u128::MAX, u64::MAX);
                    if (digits.len(), digits) > (most.len(), &most) {
                        return None;
                    }
                    // Any number proves a death, except the start of this process.
                    record.boot = mine.boot;
                    let alive = start(number).filter(|ticks| digits == decimal(mine.boot, *ticks));
                    record.ticks = alive.unwrap_or(u64::MAX);
                    // Without a boot, the number is just the ticks.
                    if let Ok(ticks @ 1..) = digits.parse() {
                        (record.boot, record.ticks) = (0, ticks);
                    }
                }
                _ => return None,
            }
            Some((record, true))
        }
        _ => {
            let (host, rest) = text.rsplit_once('.')?;
            let Some((number, tail)) = rest.split_once('-') else {
                let mkdir = protocol == Protocol::Mkdir;
                return mkdir.then(|| pid(rest).map(|pid| (plain(host, pid), true)))?;
            };
            let number = pid(number)?;
            let (tail, promise) = match tail.split_once('-') {
                Some((tail, promise)) if tail.starts_with('0') && tail.len() > 60 => {
                    let plain = promise.bytes().all(|byte| byte.is_ascii_digit());
                    (tail, Some(promise.parse::<u64>().ok().filter(|_| plain)?))
                }
                _ => (tail, None),
            };
            if tail.is_empty() || !tail.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            if tail.starts_with('0') && tail != "0" && tail.len() <= 60 {
                return None;
            }
            if !tail.starts_with('0') || tail == "0" {
                let thread = host.rsplit_once('-').filter(|(_, thread)| {
                    host != mine.host
                        && !thread.is_empty()
                        && thread.bytes().all(|b| b.is_ascii_hexdigit())
                });
                let host = thread.map_or(host, |(host, _)| host);
                return Some((plain(host, number), true));
            }
            let record = Record {
                host: host.into(),
                pid: number,
                boot: tail[1..40].parse().ok()?,
                namespace: tail[40..50].parse().ok()?,
                ticks: tail[60..].parse().ok()?,
            };
            // Who promises to show that it lives, but where it cannot be seen, is not judged.
            Some((record, promise.is_none()))
        }
    }
}

/// Tries every text as the record of a lock. Returns how many were taken over.
pub(crate) fn try_all(protocol: Protocol, texts: impl Iterator<Item = Vec<u8>>) -> usize {
    let dir = Dir::new();
    let lock = open(&dir, protocol);
    texts
        .filter(|text| try_one(&dir, &lock, text) == Some(true))
        .count()
}

/// An empty directory for a lock.
pub(crate) struct Place {
    pub(crate) dir: Dir,
    pub(crate) lock: LockFile,
}

impl Place {
    /// One for each existence lock that is an entry of a directory.
    pub(crate) fn all() -> Vec<Self> {
        let one = |protocol| {
            let dir = Dir::new();
            let lock = open(&dir, protocol);
            Self { dir, lock }
        };
        NAMES.map(one).into()
    }
}

/// Tries a text as the record of a lock in an empty directory. Returns whether the lock was taken over;
/// none if the text cannot be a record.
pub(crate) fn try_one(dir: &Dir, lock: &LockFile, text: &[u8]) -> Option<bool> {
    let protocol = lock.protocol();
    let content = matches!(protocol, Protocol::PidFile | Protocol::Soft);
    // Not every text can be a name.
    let name = text.len() < 256 && text != b"." && text != b".." && !text.is_empty();
    let taken_by_lock = protocol == Protocol::Link && text == b"lock.lock";
    if !content && (!name || text.contains(&0) || text.contains(&b'/') || taken_by_lock) {
        return None;
    }
    plant(dir, protocol, text);
    let before = snapshot(dir.0.path());
    let dead = is_dead(protocol, text);
    let shown = text.escape_ascii();
    match lock.try_acquire(EX).unwrap() {
        Some(guard) => {
            // It may have lived until just now: made-up numbers and ticks can be those of a process.
            let alive = dead == Some(false) && is_dead(protocol, text) == Some(false);
            assert!(!alive, "{protocol}: taken from {shown}");
            guard.release().unwrap();
            assert!(snapshot(dir.0.path()).is_empty(), "{protocol}: {shown}");
            Some(true)
        }
        None => {
            let gone = dead == Some(true) && is_dead(protocol, text) == Some(true);
            assert!(!gone, "{protocol}: left to {shown}");
            let alive = dead == Some(false) && is_dead(protocol, text) == Some(false);
            assert!(!alive || lock.is_locked().unwrap(), "{protocol}: {shown}");
            assert_eq!(snapshot(dir.0.path()), before, "{protocol}: {shown}");
            remove(&place(dir, protocol));
            if protocol == Protocol::Link {
                remove(&dir.0.path().join(std::ffi::OsStr::from_bytes(text)));
            }
            Some(false)
        }
    }
}

/// What the fuzzer has found, and its seeds. The first byte chooses the protocol.
#[test]
fn the_corpus_is_held_unless_it_proves_a_death() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/records");
    let places = Place::all();
    let mut texts = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let text = fs::read(entry.unwrap().path()).unwrap();
        let (first, text) = text.split_first().unwrap();
        let Place { dir, lock } = &places[usize::from(*first) % places.len()];
        texts += usize::from(try_one(dir, lock, text).is_some());
    }
    assert!(texts >= 5);
}

#[test]
fn random_bytes_are_held() {
    let all: Vec<u8> = (0..=255).collect();
    let alphabets: [&[u8]; 4] = [&all, b"0123456789\n", b"0123456789-.", b"1\nvm?pidns-"];
    for protocol in NAMES {
        let mut dice = Dice(0x10c4_e700_0000_0001);
        let texts = (0..1000).map(|_| {
            let alphabet = dice.pick(&alphabets);
            dice.bytes(alphabet, 40)
        });
        let taken = try_all(protocol, texts);
        println!("{protocol}: {taken} of 1000 taken over");
    }
}

#[test]
fn corrupted_records_are_held_unless_they_prove_a_death() {
    let mine = Record::mine();
    let gone = mine.but(|record| record.pid = GONE);
    for protocol in NAMES {
        let mut dice = Dice(0x10c4_e700_0000_0002);
        let texts = (0..1000).map(|i| {
            let record = if i % 2 == 0 { &mine } else { &gone };
            let text = match protocol {
                Protocol::PidFile => format!("{}\n", record.pid),
                Protocol::Soft => record.text(),
                _ => record.name(),
            };
            dice.corrupt(text.as_bytes())
        });
        let taken = try_all(protocol, texts);
        println!("{protocol}: {taken} of 1000 taken over");
        assert!(taken > 0 || protocol == Protocol::PidFile);
    }
}
