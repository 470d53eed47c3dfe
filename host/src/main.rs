//! The command line tool `locket`; see `locket --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
