//! Nothing that was acknowledged is missing, whoever is killed and when.

use super::*;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Writers that are started again when they have been killed.
pub(crate) struct Race<'a> {
    programs: &'a Programs,
    writers: &'a [(usize, &'a str)],
    running: Vec<Followed>,
    acknowledged: BTreeMap<usize, u64>,
    pub(crate) kills: u32,
}

impl<'a> Race<'a> {
    pub(crate) fn start(
        programs: &'a Programs,
        mode: &str,
        writers: &'a [(usize, &'a str)],
    ) -> Result<Self> {
        programs.init(mode)?;
        let running = writers.iter().map(|writer| follow(programs, *writer));
        let running = running.collect::<Result<_>>()?;
        Ok(Self {
            programs,
            writers,
            running,
            acknowledged: BTreeMap::new(),
            kills: 0,
        })
    }

    fn kill(&mut self, index: usize) -> Result {
        self.running[index].child.kill()?;
        self.replace(index)
    }

    /// Starts those again that have killed themselves. Whether all others still run.
    pub(crate) fn replace_the_dead(&mut self, own_death: i32) -> Result<bool> {
        for index in 0..self.running.len() {
            match self.running[index].child.try_wait()? {
                None => {}
                Some(status) if status.code() == Some(own_death) => self.replace(index)?,
                Some(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn replace(&mut self, index: usize) -> Result {
        let again = follow(self.programs, self.writers[index])?;
        self.kills += 1;
        let killed = std::mem::replace(&mut self.running[index], again);
        self.note(killed)
    }

    fn note(&mut self, mut followed: Followed) -> Result {
        followed.child.wait()?;
        let said = followed.said.take().expect("it is taken once");
        let said = said.join().expect("the reader does not panic");
        let last = self.acknowledged.entry(followed.writer).or_default();
        *last = said.max(*last);
        Ok(())
    }

    /// Kills all of them. What is wrong with the database, or how many commits it has.
    pub(crate) fn end(mut self) -> Result<std::result::Result<u64, String>> {
        for mut last in std::mem::take(&mut self.running) {
            last.child.kill()?;
            self.note(last)?;
        }
        let mut total = 0;
        for (writer, last) in &self.acknowledged {
            let rows = format!("select count(*) from log where writer = {writer}");
            let Ok(rows) = self.programs.ask(&rows) else {
                return Ok(Err("the database cannot be read".to_owned()));
            };
            let rows: u64 = rows.parse()?;
            // One that was killed had no time to say so.
            if *last > rows {
                let what = format!("writer {writer}: {last} acknowledged, {rows} there");
                return Ok(Err(what));
            }
            total += rows;
        }
        let sql = "pragma integrity_check; select n, (select count(*) from log) from counter";
        let found = self.programs.ask(sql)?;
        let right = format!("ok\n{total}|{total}");
        Ok(if found == right {
            Ok(total)
        } else {
            Err(found)
        })
    }
}

/// A writer, and the number that it has said last. It is killed when this is dropped.
struct Followed {
    writer: usize,
    child: Child,
    said: Option<JoinHandle<u64>>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(programs: &Programs, (writer, how): (usize, &str)) -> Result<Followed> {
    let mut child = programs.start(how, &writer.to_string(), "1000000")?;
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let said = std::thread::spawn(move || {
        let numbers = output.lines().map_while(|line| line.ok()?.parse().ok());
        numbers.last().unwrap_or(0)
    });
    let said = Some(said);
    Ok(Followed {
        writer,
        child,
        said,
    })
}

#[test]
fn what_was_committed_in_a_log_survives_kills() -> Result {
    survive_kills("wal")
}

#[test]
fn what_was_committed_with_a_journal_survives_kills() -> Result {
    survive_kills("delete")
}

fn survive_kills(mode: &str) -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    let seconds: u64 = std::env::var("SQLITE_SECONDS").map_or(6, |s| s.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let writers = [(0, "guest"), (1, "unix"), (2, "unix"), (3, "guest")];
    let mut race = Race::start(&programs, mode, &writers)?;
    let mut random = 1_u64;
    while Instant::now() < end {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let pause = 50 + (random >> 33) % 250;
        #[expect(clippy::disallowed_methods, reason = "the time until the next kill")]
        std::thread::sleep(Duration::from_millis(pause));
        assert!(race.replace_the_dead(0)?, "a writer has failed");
        race.kill(usize::try_from((random >> 40) % writers.len() as u64)?)?;
    }
    let kills = race.kills;
    assert!(kills > 0);
    let total = race.end()?.expect("nothing is missing");
    println!("{kills} kills, {total} commits");
    for (writer, how) in writers {
        let rows = format!("select count(*) from log where writer = {writer}");
        let rows = programs.ask(&rows)?;
        println!("writer {writer}, {how}: {rows}");
        // With a journal, SQLite lets one writer be faster than all others.
        assert!(
            rows != "0" || mode == "delete",
            "writer {writer}, {how}, never got its turn"
        );
    }
    programs.check(mode, total)
}
