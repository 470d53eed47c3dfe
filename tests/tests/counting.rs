//! All kinds of participants count in one unprotected file: `locket exec`, Python with either lock family, and
//! component instances. Each round reads the number, writes it back plus one, and adds a line to
//! a journal. Without exclusion counts get lost. The number is written over the old one, which
//! is never longer, so that a kill in the middle leaves a number.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use locket_tests::guests;
use locket_tests::process::{eventually, tool};

const ROUNDS: usize = 500;

struct Table {
    dir: tempfile::TempDir,
}

impl Table {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("lock", ""), ("counter", "0"), ("journal", "")] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn total(&self) -> usize {
        std::fs::read_to_string(self.path("counter"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// How many rounds each participant finished.
    fn journal(&self) -> HashMap<String, usize> {
        let mut rounds = HashMap::new();
        for name in std::fs::read_to_string(self.path("journal"))
            .unwrap()
            .lines()
        {
            *rounds.entry(name.to_owned()).or_default() += 1;
        }
        rounds
    }

    /// One `locket exec` a round.
    fn exec(&self, name: &str) -> Child {
        let round =
            format!("n=$(cat counter); printf %s $((n + 1)) 1<> counter; echo {name} >> journal");
        let script = format!(
            "i=0; while [ $i -lt {ROUNDS} ]; do '{}' exec lock -- sh -c '{round}' || exit 1; i=$((i + 1)); done",
            tool().display(),
        );
        self.start(Command::new("sh").arg("-c").arg(script))
    }

    /// The two lock families do not see each other, so the two Pythons need a lock of their own
    /// among themselves. Locket keeps either away from all others.
    fn python(&self, name: &str, function: &str) -> Child {
        let script = format!(
            "import fcntl\n\
             for _ in range({ROUNDS}):\n\
             \x20   with open('pythons', 'w') as among_us, open('lock', 'r+') as f:\n\
             \x20       fcntl.flock(among_us, fcntl.LOCK_EX)\n\
             \x20       fcntl.{function}(f, fcntl.LOCK_EX)\n\
             \x20       n = int(open('counter').read())\n\
             \x20       open('counter', 'r+').write(str(n + 1))\n\
             \x20       open('journal', 'a').write('{name}\\n')\n\
             \x20       fcntl.{function}(f, fcntl.LOCK_UN)\n"
        );
        self.start(Command::new("python3").arg("-c").arg(script))
    }

    /// `instances` of a component in one process.
    fn components(&self, name: &str, instances: usize) -> Child {
        let mut command = Command::new(tool());
        command
            .arg("run")
            .arg("--dir")
            .arg(format!("{}::/table", self.dir.path().display()));
        command
            .args(["--instances", &instances.to_string()])
            .arg(guests::path("counter"));
        for (flag, value) in [
            ("--lock", "/table/lock"),
            ("--counter", "/table/counter"),
            ("--journal", "/table/journal"),
            ("--count", &ROUNDS.to_string()),
            ("--id", name),
        ] {
            command.args([flag, value]);
        }
        self.start(&mut command)
    }

    fn start(&self, command: &mut Command) -> Child {
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }
}

#[test]
fn native_processes_and_components_lose_no_count() {
    let table = Table::new();
    let participants = [
        table.exec("exec-1"),
        table.exec("exec-2"),
        table.python("python-flock", "flock"),
        table.python("python-lockf", "lockf"),
        table.components("component", 4),
    ];
    for mut participant in participants {
        assert!(participant.wait().unwrap().success());
    }
    let journal = table.journal();
    println!("{journal:?}");
    for name in ["exec-1", "exec-2", "python-flock", "python-lockf"] {
        assert_eq!(journal[name], ROUNDS, "{name}");
    }
    assert_eq!(journal["component"], 4 * ROUNDS);
    assert_eq!(table.total(), 8 * ROUNDS);
    assert!(turns(&table.path("journal")) > 8, "they did not take turns");
}

/// How often the lock changed hands.
fn turns(journal: &Path) -> usize {
    let journal = std::fs::read_to_string(journal).unwrap();
    let names: Vec<_> = journal.lines().collect();
    names.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn sigkill_of_any_participant_costs_no_more_than_its_unfinished_round() {
    let table = Table::new();
    let mut killed = vec![
        ("python-flock", table.python("python-flock", "flock")),
        ("python-lockf", table.python("python-lockf", "lockf")),
        (
            "killed-components",
            table.components("killed-components", 2),
        ),
        ("exec-1", table.exec("exec-1")),
    ];
    let survivors = [table.exec("exec-2"), table.components("component", 2)];
    for (name, child) in &mut killed {
        eventually(&format!("{name} counts"), || {
            table.journal().get(*name).copied().unwrap_or(0) >= 10
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for mut survivor in survivors {
        assert!(survivor.wait().unwrap().success());
    }
    let journal = table.journal();
    println!("{journal:?}");
    assert_eq!(journal["exec-2"], ROUNDS);
    assert_eq!(journal["component"], 2 * ROUNDS);
    let finished: usize = journal.values().sum();
    // Counted, and killed before the line in the journal: at most once for each of the killed.
    let total = table.total();
    assert!(
        (finished..=finished + killed.len()).contains(&total),
        "{finished} finished, {total}"
    );
}
