//! Real tools as peers: which programs a lock excludes, found out by trying. Each peer holds a lock while
//! `locket exec` tries, gives up after a while, and waits; then the other way round. The results are
//! compared with what is known of the peers, and with the table in the README.
//!
//! The peers are in `tests/foreign`, one program for each language. A program is started with the name of
//! a library and prints its version. Then it answers line by line: `try PATH` with `got` or `busy`,
//! `wait SECONDS PATH` with `got` or `timed-out`, `release` with `released`, and any failure with `error`
//! and its cause.

mod encounters;
mod experiment;
mod peers;
mod table;
