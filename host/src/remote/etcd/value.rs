//! What the key of an attempt says about it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// What is shown of a label at most, in characters. Any client can write what it likes.
const SHOWN: usize = 200;

/// The value of a key, for those who ask who holds the lock. `since` is unknown while it is
/// awaited.
pub(super) fn encode(label: Option<&str>, since: Option<SystemTime>) -> Vec<u8> {
    let since = since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let since = since.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    json!({ "v": 1, "label": label, "since": since })
        .to_string()
        .into_bytes()
}

/// The label, and since when the lock is held. `etcdctl` says neither.
pub(super) fn decode(value: &[u8]) -> (Option<String>, Option<SystemTime>) {
    let value: Value = serde_json::from_slice(value).unwrap_or_default();
    let label = value["label"].as_str();
    let label = label.map(|label| label.chars().take(SHOWN).collect());
    let since = value["since"].as_u64().map(Duration::from_millis);
    let since = since.and_then(|time| UNIX_EPOCH.checked_add(time));
    (label, since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let since = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let value = encode(Some("a \"b\""), Some(since));
        assert_eq!(decode(&value), (Some("a \"b\"".to_owned()), Some(since)));
        assert_eq!(decode(&encode(None, None)), (None, None));
    }

    #[test]
    fn what_others_write_does_no_harm() {
        let long = format!("{{\"label\":\"{}\"}}", "ä".repeat(1000));
        assert_eq!(
            decode(long.as_bytes()).0.map(|l| l.chars().count()),
            Some(SHOWN)
        );
        let bad: [&[u8]; 5] = [b"", b"\xff", b"[1]", b"{\"label\":1,\"since\":-1}", b"null"];
        for value in bad {
            assert_eq!(decode(value), (None, None), "{value:?}");
        }
    }
}
