//! The command lines of the manual of `flock(1)`, with both programs.

use std::path::Path;
use std::process::Command;

use super::is_free;
use crate::support::{Dir, Holder, locket, output};

/// A line of the shell, in which `LOCK` is one of the programs.
struct Line {
    text: &'static str,
    /// How it exits while the lock is free, while another process shares it, and while another holds
    /// it exclusively.
    codes: [i32; 3],
}

const fn line(text: &'static str, codes: [i32; 3]) -> Line {
    Line { text, codes }
}

const LINES: &[Line] = &[
    line("LOCK -n l -c true", [0, 1, 1]),
    line("LOCK -n l -c 'exit 3'", [3, 1, 1]),
    line("LOCK -n l -c 'true && test \"$0\" != -c'", [0, 1, 1]),
    line("LOCK -n l --command 'exit 3'", [3, 1, 1]),
    line("LOCK -w .007 l -c echo", [0, 1, 1]),
    line("LOCK -s -w .007 l -c echo", [0, 0, 1]),
    line("LOCK --shared --nb l true", [0, 0, 1]),
    line("LOCK -x -n l echo 'a b c'", [0, 1, 1]),
    line("LOCK -e -n l true", [0, 1, 1]),
    line("LOCK -en l true", [0, 1, 1]),
    line("LOCK --exclusive --nonblock l true", [0, 1, 1]),
    line("LOCK --nb -E 75 l true", [0, 75, 75]),
    line("LOCK -n --conflict-exit-code 0 l false", [1, 0, 0]),
    line("LOCK --wait 0 l false", [1, 1, 1]),
    line("LOCK --timeout 0.01 -E 9 l true", [0, 9, 9]),
    line("LOCK -n -o l true", [0, 1, 1]),
    line(
        "LOCK -n --close l sh -c '! ls -l /proc/self/fd | grep /l$'",
        [0, 1, 1],
    ),
    line(
        "LOCK -n l sh -c 'ls -l /proc/self/fd | grep -q /l$'",
        [0, 1, 1],
    ),
    line("LOCK -n -F l sh -c 'exit 3'", [3, 1, 1]),
    line("LOCK -n --no-fork l true", [0, 1, 1]),
    line("LOCK -n --verbose l true", [0, 1, 1]),
    line("(LOCK -n 9 || exit 1; exit 4) 9>l", [4, 1, 1]),
    line("(LOCK -n 9 || exit 1; exit 4) 9>>l", [4, 1, 1]),
    line("(LOCK -n 9 || exit 1; exit 4) 9<l", [4, 1, 1]),
    line("(LOCK -sn 9 || exit 1; exit 4) 9>l", [4, 4, 1]),
    line("exec 4<>l; LOCK -n 4", [0, 1, 1]),
    line("exec 4<>l; LOCK -w 0.01 -E 6 4", [0, 6, 6]),
    line(
        "exec 4<>l; LOCK -n 4 && LOCK -u 4 && flock -n l true",
        [0, 1, 1],
    ),
    line("cd l.d && LOCK -n . true", [0, 0, 0]),
    line("LOCK -n l.d true", [0, 0, 0]),
    line("LOCK -n /dev/null true", [0, 0, 0]),
    line("LOCK -n l.d -c 'flock -n l.d true'", [1, 1, 1]),
    line("LOCK -n link true && test -f target", [0, 0, 0]),
    line("LOCK -n", [64, 64, 64]),
    line("LOCK -n l", [64, 64, 64]),
    line("LOCK -n -F -o l true", [64, 64, 64]),
    line("LOCK --nonsense l true", [64, 64, 64]),
    line("LOCK -w soon l true", [64, 64, 64]),
    line("LOCK -n missing/l true", [66, 66, 66]),
    line("LOCK -n 77", [65, 65, 65]),
    line("LOCK -n l sh -c 'kill -TERM $$'; exit $?", [143, 1, 1]),
];

fn run(line: &str, program: &str, dir: &Path) -> Option<i32> {
    let mut shell = Command::new("bash");
    shell.args(["-c", &line.replace("LOCK", program)]);
    shell.current_dir(dir);
    // What a line creates is gone for the next one.
    let _ = std::fs::remove_file(dir.join("target"));
    output(shell).status.code()
}

#[test]
fn every_line_does_the_same_as_with_flock() {
    let dir = Dir::new();
    let lock = dir.write("l", "");
    std::fs::create_dir(dir.path("l.d")).unwrap();
    std::os::unix::fs::symlink("target", dir.path("link")).unwrap();
    let here = lock.parent().unwrap();
    let exec = format!("{} exec", env!("CARGO_BIN_EXE_locket"));
    let mut wrong = Vec::new();
    for (holder, mode) in [None, Some("-s"), Some("-x")].into_iter().enumerate() {
        let holds = mode.map(|mode| Holder::exec(&[mode], &lock));
        for Line { text, codes } in LINES {
            let got = [run(text, &exec, here), run(text, "flock", here)];
            if got != [Some(codes[holder]); 2] {
                wrong.push(format!("{text} ({mode:?}): {got:?}, not {}", codes[holder]));
            }
        }
        if let Some(holder) = holds {
            assert_eq!(holder.end(), 0);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_script_locks_itself_as_the_manual_says() {
    let dir = Dir::new();
    let exec = format!("{} exec", env!("CARGO_BIN_EXE_locket"));
    for (name, program) in [("with-flock", "flock"), ("with-locket", exec.as_str())] {
        let script = format!(
            "#!/bin/bash\n[ \"${{FLOCKER}}\" != \"$0\" ] && exec env FLOCKER=\"$0\" {program} -en \
             \"$0\" \"$0\" \"$@\" || :\necho \"body $1\"\n"
        );
        let path = dir.write(name, script);
        let mut chmod = Command::new("chmod");
        assert!(chmod.arg("755").arg(&path).status().unwrap().success());
        let run = || {
            let mut run = Command::new(&path);
            run.arg("x");
            output(run)
        };
        let first = run();
        assert_eq!(first.stdout, b"body x\n", "{first:?}");
        let holder = Holder::flock(&path);
        assert_eq!(run().status.code(), Some(1), "{name}");
        assert_eq!(holder.end(), 0);
    }
}

#[test]
fn a_command_that_replaces_locket_has_its_number_and_keeps_the_lock() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let script = "sh -c 'echo $$'; exec \"$@\" sh -c 'echo $$'";
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_locket"),
        "exec",
        "-F",
    ]);
    shell.arg(&lock);
    let child = shell.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().last(), Some(pid.as_str()));
    let holder = Holder::exec(&["-F"], &lock);
    assert!(!is_free(&[], &lock));
    assert_eq!(holder.end(), 0);
    assert!(is_free(&[], &lock));
}

#[test]
fn what_does_not_go_together_is_refused_with_the_reason() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let lock = lock.to_str().unwrap();
    for (args, why) in [
        (&["-u", lock, "true"][..], "number of an open descriptor"),
        (&["-F", "--protocol", "soft", lock, "true"], "kernel lock"),
        (&["-F", "--remove", lock, "true"], "cannot be used with"),
        (
            &["--fcntl", "--protocol", "flock", lock, "true"],
            "cannot be used with",
        ),
        (&["--protocol", "soft", "9"], "kernel lock"),
        (&[lock], "COMMAND"),
        (&[lock, "-c", "true", "true"], "cannot be used with"),
    ] {
        let mut exec = locket(&["exec"]);
        exec.args(args);
        let output = output(exec);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(why), "{args:?}: {message}");
    }
}

#[test]
fn the_shell_of_a_line_is_that_of_the_user() {
    let dir = Dir::new();
    let mut exec = locket(&["exec"]);
    exec.arg(dir.path("lock"))
        .args(["-c", "[[ a == a ]] && echo $BASH_VERSION"]);
    exec.env("SHELL", "/bin/bash");
    let output = output(exec);
    assert!(
        output.status.success() && output.stdout.len() > 1,
        "{output:?}"
    );
    // A line without `-c` is a wrong name of a program.
    let mut exec = locket(&["exec"]);
    exec.arg(dir.path("lock")).arg("true && true");
    let message = String::from_utf8(crate::support::output(exec).stderr).unwrap();
    assert!(message.contains("use `-c`"), "{message}");
}
