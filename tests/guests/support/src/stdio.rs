use crate::{Failure, reply};
use std::format;
use std::io::{self, Write};
use std::string::String;
use std::vec::Vec;

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(format!("fs {:?}", error.kind()))
    }
}

/// Answers each line of standard input with one line on standard output. `run`
/// gets the words of the line.
pub fn serve(mut run: impl FnMut(&[&str]) -> Result<String, Failure>) -> io::Result<()> {
    for line in io::stdin().lines() {
        let line = line?;
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let mut answer = reply(run(&words));
        answer.push('\n');
        let mut stdout = io::stdout();
        stdout.write_all(answer.as_bytes())?;
        stdout.flush()?;
    }
    Ok(())
}
