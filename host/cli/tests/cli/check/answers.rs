//! What is printed, and the exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use locket_test_support::not_tested;
use serde_json::{Value, json};

use super::{ALL, Checked};
use crate::support::{Dir, code, locket, output};

/// Whether everything is as it should be, and nothing is left.
fn keeps_its_promises(dir: &Path) {
    let before = fs::read_dir(dir).unwrap().count();
    let checked = Checked::dir(dir);
    let report = &checked.report;
    assert_eq!(checked.with("works"), ALL, "{report:#}");
    assert_eq!(checked.code, Some(0), "{report:#}");
    assert_eq!(report["answers"], json!(true));
    assert_eq!(report["recommended"], json!("native"));
    assert_eq!(report["left_behind"], json!(null));
    assert_eq!(fs::read_dir(dir).unwrap().count(), before);
    let mut unlike = Vec::new();
    for (family, tries) in report["tries"].as_object().unwrap() {
        let tries = tries.as_object().unwrap().iter();
        unlike.extend(
            tries
                .filter(|(_, outcome)| **outcome != json!("yes"))
                .map(|(name, outcome)| format!("{family} {name}: {outcome}")),
        );
    }
    let expected = [
        r#"flock excludes_other_family: "no""#,
        r#"flock ranges: "not-tried""#,
        r#"record directory: "not-tried""#,
        r#"record excludes_other_family: "no""#,
        r#"record read_only: "not-tried""#,
        r#"record removed: "not-tried""#,
    ];
    unlike.sort();
    assert_eq!(unlike, expected);
}

#[test]
fn a_temporary_directory_keeps_its_promises() {
    keeps_its_promises(&Dir::new().path(""));
}

#[test]
fn a_file_system_in_memory_keeps_its_promises() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        return not_tested(format_args!("no file system in /dev/shm"));
    };
    keeps_its_promises(dir.path());
    let checked = Checked::dir(dir.path());
    assert_eq!(checked.report["file_system"]["type"], json!("tmpfs"));
    assert_eq!(checked.report["file_system"]["magic"], json!("0x1021994"));
    assert_eq!(
        checked.report["file_system"]["mounted_at"],
        json!("/dev/shm")
    );
}

#[test]
fn in_words_it_is_a_table() {
    let dir = Dir::new();
    let path = dir.path("");
    let answer = output(locket(&["check", path.to_str().unwrap()]));
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
    assert!(
        text.contains("\nprotocol  verdict           why\nnative    works\n"),
        "{text}"
    );
    assert!(
        text.ends_with("\nUse the default protocol, native.\n"),
        "{text}"
    );
}

#[test]
fn one_protocol_is_judged_alone() {
    let dir = Dir::new();
    let mut check = locket(&["check", "--protocol", "mkdir"]);
    check.arg(dir.path(""));
    let checked = Checked::of(check);
    assert_eq!(checked.code, Some(0));
    let protocols = checked.report["protocols"].as_array().unwrap();
    let names: Vec<_> = protocols.iter().map(|one| &one["protocol"]).collect();
    assert_eq!(names, [&Value::from("mkdir")]);
}

#[test]
fn where_no_files_can_be_created_it_exits_with_66() {
    let dir = Dir::new();
    let file = dir.write("file", "");
    let missing = dir.path("missing");
    for path in [&file, &missing] {
        let answer = output(locket(&["check", path.to_str().unwrap()]));
        let message = String::from_utf8(answer.stderr).unwrap();
        assert_eq!(answer.status.code(), Some(66), "{message}");
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(
            message.contains("give the path of a directory"),
            "{message}"
        );
    }
    let read_only = dir.path("read-only");
    fs::create_dir(&read_only).unwrap();
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        return not_tested(format_args!("root may create files in any directory"));
    }
    assert_eq!(code(locket(&["check", read_only.to_str().unwrap()])), 66);
}

/// Every key of an object, and of those in it.
fn keys(value: &Value) -> Vec<&String> {
    match value {
        Value::Object(object) => {
            let inner = object.values().flat_map(keys);
            object.keys().chain(inner).collect()
        }
        Value::Array(array) => array.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_field_is_documented() {
    let dir = Dir::new();
    let checked = Checked::dir(&dir.path(""));
    let help = output(locket(&["check", "--help"])).stdout;
    let help = String::from_utf8(help).unwrap();
    let (_, json) = help.split_once("JSON:").unwrap();
    let words: Vec<_> = json
        .split(|c: char| !c.is_alphabetic() && c != '_')
        .collect();
    let fields = keys(&checked.report);
    assert!(fields.len() > 50, "{fields:?}");
    for field in fields {
        assert!(words.contains(&field.as_str()), "{field}");
    }
}

#[test]
fn the_name_of_a_directory_may_look_like_an_option() {
    let dir = Dir::new();
    fs::create_dir(dir.path("-d")).unwrap();
    let mut check = locket(&["check", "--", "-d"]);
    check.current_dir(dir.path(""));
    let output = output(check);
    assert!(output.status.success(), "{output:?}");
}
