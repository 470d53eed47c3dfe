//! filelock's `SoftFileLock`: the file itself, created by the holder, with a record of that process
//! in two or three lines: its number, its host, and when it started.
//!
//! The host is as filelock writes it: bytes that are not printable as `?xx`, and then the namespace
//! of the process, unless it is the initial one. The start is one number: the boot identifier as
//! 128 bits, and after it 64 bits with the ticks since. An extended attribute, which filelock
//! ignores, has the [`promise`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, Write};

use super::MarkerFormat;
use super::dirent::{EntryStat, make_file, open_file, read_file};
use super::owner_record::{Host, OwnerRecord, Start, parse_pid};
use super::promise::{self, Claim};
use crate::object::Created;
use crate::sys;

#[derive(Debug)]
pub(in crate::backend) struct Soft;

impl MarkerFormat for Soft {
    fn suffix(&self) -> &'static str {
        ""
    }

    fn is_record(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<bool> {
        Ok(self.claim(dir, name, seen)?.is_some())
    }

    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
        make_file(dir, name, record(claim).as_bytes(), 0o644, claim)
    }

    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<Claim>> {
        let Some(file) = open_file(dir, name, seen)? else {
            return Ok(None);
        };
        let record = read_file(&file)?.and_then(|content| parse(&content));
        let record = record.map(|plain| promise::attached(&file, plain));
        record
            .map(|record| Claim::new(record, || Ok(Some(file))))
            .transpose()
    }

    /// filelock may be breaking the lock and about to put the file back. This record marks it as
    /// released for every reader.
    fn clean_up(&self, _: &File, created: &Created) {
        if let Some(mut file) = created.pin.as_ref()
            && file
                .rewind()
                .and_then(|()| file.write_all(RELEASED))
                .is_ok()
        {
            let _ = file.set_len(RELEASED.len() as u64);
        }
    }
}

fn record(claim: &OwnerRecord) -> String {
    let (host, namespace) = match &claim.host {
        Host::Named(host, namespace) => (host.as_encoded_bytes(), *namespace),
        Host::Local | Host::Nowhere => (&[][..], None),
    };
    let mut record = format!("{}\n", claim.pid);
    for byte in host {
        match byte {
            b'?' | ..0x21 | 0x7f.. => record += &format!("?{byte:02x}"),
            byte => record.push(char::from(*byte)),
        }
    }
    match namespace {
        Some(namespace) if namespace != sys::INITIAL_PID_NAMESPACE => {
            record += &format!("{MARK}{namespace:x}");
        }
        _ if host.is_empty() => record.push('?'),
        _ => {}
    }
    record.push('\n');
    if let Some(start) = claim.start {
        record += &format!("{}\n", decimal(start));
    }
    record
}

/// Whether `content` is such a record.
pub(super) fn is_record(content: &[u8]) -> bool {
    parse(content).is_some()
}

const MARK: &str = "?pidns-";

const RELEASED: &[u8] = b"filelock/released\n";

fn parse(content: &[u8]) -> Option<OwnerRecord> {
    if content == RELEASED {
        return Some(OwnerRecord {
            pid: 0,
            host: Host::Nowhere,
            start: None,
            promise: None,
        });
    }
    let content = std::str::from_utf8(content).ok()?.strip_suffix('\n')?;
    let lines: Vec<_> = content.split('\n').collect();
    let (pid, host, start) = match lines.as_slice() {
        [pid, host] => (pid, host, None),
        [pid, host, start] => (pid, host, Some(parse_decimal(start)?)),
        _ => return None,
    };
    let (host, namespace) = match host.split_once(MARK) {
        Some((host, namespace)) => (host, Some(u64::from_str_radix(namespace, 16).ok()?)),
        // An older filelock in a container does not record more, either.
        None => (*host, None),
    };
    let mut name = Vec::new();
    let mut bytes = host.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'?' if bytes.len() >= 2 => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                name.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'?' if host.len() == 1 => {}
            0x21..=0x7e if byte != b'?' => name.push(byte),
            _ => return None,
        }
    }
    Some(OwnerRecord {
        pid: parse_pid(pid)?,
        host: Host::Named(sys::os_string(name), namespace),
        start,
        promise: None,
    })
}

/// The start of a process as one number of 192 bits, in decimal digits.
fn decimal(start: Start) -> String {
    let mut limbs = [(start.boot >> 64) as u64, start.boot as u64, start.ticks];
    let mut digits = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) || digits.is_empty() {
        let mut rest = 0;
        for limb in &mut limbs {
            let dividend = (rest << 64) | u128::from(*limb);
            *limb = (dividend / 10) as u64;
            rest = dividend % 10;
        }
        digits.push(b'0' + rest as u8);
    }
    digits
        .iter()
        .rev()
        .map(|digit| char::from(*digit))
        .collect()
}

/// Reverses [`decimal`].
fn parse_decimal(text: &str) -> Option<Start> {
    let mut limbs = [0u64; 3];
    if text.is_empty() {
        return None;
    }
    for digit in text.chars() {
        let mut carry = u128::from(digit.to_digit(10)?);
        for limb in limbs.iter_mut().rev() {
            let sum = u128::from(*limb) * 10 + carry;
            *limb = sum as u64;
            carry = sum >> 64;
        }
        if carry != 0 {
            return None;
        }
    }
    let [high, low, ticks] = limbs;
    let boot = u128::from(high) << 64 | u128::from(low);
    Some(Start { boot, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mine = OwnerRecord::mine();
        let mut read = parse(record(&mine).as_bytes()).expect("the record can be parsed");
        if let (Host::Named(_, read), Host::Named(_, mine)) = (&mut read.host, &mine.host) {
            // The initial namespace is not written.
            *read = read.or(*mine);
        }
        assert_eq!(read, mine);
        let odd = OwnerRecord {
            host: Host::Named("a ?b\n".into(), Some(0xf000_0001)),
            ..mine
        };
        assert_eq!(parse(record(&odd).as_bytes()), Some(odd));
    }

    #[test]
    fn numbers_of_192_bits() {
        let start = Start {
            boot: u128::MAX,
            ticks: u64::MAX,
        };
        let most = "6277101735386680763835789423207666416102355444464034512895";
        assert_eq!(decimal(start), most);
        assert_eq!(parse_decimal(most), Some(start));
        let none = Start { boot: 0, ticks: 0 };
        assert_eq!(
            (decimal(none), parse_decimal("0")),
            ("0".into(), Some(none))
        );
        for bad in [
            "",
            "-1",
            "+1",
            "1 ",
            &format!("{most}0"),
            "6277101735386680763835789423207666416102355444464034512896",
        ] {
            assert_eq!(parse_decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_record_says_nothing() {
        let bad: [&[u8]; 11] = [
            b"",
            b"\n",
            b"123\n",
            b"123\nvm",
            b"123\nvm\n4\n5\n",
            b"0\nvm\n",
            b"-1\nvm\n",
            b"99999999999999999999\nvm\n",
            b"1\nvm\nx\n",
            b"1\nv m\n",
            b"\xff\n\xff\n",
        ];
        for content in bad {
            assert_eq!(parse(content), None, "{content:?}");
        }
    }
}
