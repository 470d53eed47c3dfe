//! An overlay, in namespaces of its own.

use std::process::Command;

use locket_test_support::not_tested;
use serde_json::json;

use super::{ALL, Checked};

const MOUNT: &str = r#"
    mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir lower upper work merged || exit 77
    mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged || exit 77
"#;

#[test]
fn an_overlay_keeps_its_promises_above_its_layers() {
    let unshare = |script: &str| {
        let mut unshare = Command::new("unshare");
        let script = format!("{MOUNT}{script}");
        unshare.args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_locket")]);
        unshare
    };
    if !unshare("")
        .output()
        .is_ok_and(|mounted| mounted.status.success())
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must be able to mount an overlay"
        );
        return not_tested(format_args!("no overlay can be mounted here"));
    }
    let checked = Checked::of(unshare(r#"exec "$0" check merged "$@""#));
    assert_eq!(checked.with("works"), ALL, "{:#}", checked.report);
    assert_eq!(checked.code, Some(0));
    assert_eq!(checked.report["file_system"]["type"], json!("overlay"));
    assert!(
        checked.notes().contains("layers below"),
        "{}",
        checked.notes()
    );
}
