//! `locket completions` and `locket man`.

use std::process::{Command, Stdio};

use crate::support::{Dir, code, locket, output};

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

/// The subcommands that `--help` lists.
fn subcommands() -> Vec<String> {
    let help = output(locket(&["--help"])).stdout;
    let help = String::from_utf8(help).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let list = list.lines().take_while(|line| line.starts_with("  "));
    let names = list.filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_shell_completes_every_subcommand() {
    let subcommands = subcommands();
    assert!(
        subcommands.contains(&"completions".to_owned()),
        "{subcommands:?}"
    );
    for shell in SHELLS {
        let output = output(locket(&["completions", shell]));
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for name in &subcommands {
            assert!(script.contains(name.as_str()), "{shell}: {name}");
        }
        assert!(!script.contains("worker"), "{shell}");
    }
    assert_eq!(code(locket(&["completions", "csh"])), 64);
}

#[test]
fn the_completions_of_bash_are_a_script() {
    let dir = Dir::new();
    let script = dir.write("locket", output(locket(&["completions", "bash"])).stdout);
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(r#". "$1" && complete -p locket"#);
    bash.arg("bash").arg(script).stdin(Stdio::null());
    assert_eq!(code(bash), 0);
}

#[test]
fn every_subcommand_has_a_page_in_the_manual() {
    let dir = Dir::new();
    let path = dir.path("");
    assert_eq!(code(locket(&["man", path.to_str().unwrap()])), 0);
    let pages = std::fs::read_dir(&path).unwrap();
    let mut pages: Vec<_> = pages
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let mut expected = vec!["locket.1".to_owned()];
    expected.extend(subcommands().iter().map(|name| format!("locket-{name}.1")));
    expected.sort();
    assert_eq!(pages, expected);
    let page = std::fs::read_to_string(dir.path("locket-status.1")).unwrap();
    assert!(page.contains("\\-\\-watch"), "{page}");
    assert!(page.contains(".nf\nExamples:\n"), "{page}");

    let missing = dir.path("missing");
    let failed = output(locket(&["man", missing.to_str().unwrap()]));
    assert_eq!(failed.status.code(), Some(66));
    assert!(
        String::from_utf8(failed.stderr)
            .unwrap()
            .contains("missing")
    );
}
