//! What a new session needs before it may hold a lock.
//!
//! A lock belongs to a process of the server. A pooler in transaction mode moves a session from one
//! process to another between statements: the lock then stays behind, and the next session that
//! gets that process holds it, too. A single session may happen to get the same process each time.
//! Two at once show the truth: while the first is idle, the second begins a transaction, and gets
//! the first one's process, or the first one finds its own taken.

use std::io::{Error, ErrorKind, Result};

use super::config::{Config, Fencing, seconds};
use super::session::Session;

/// The sequence that tokens come from.
const SEQUENCE: &str = "public.locket_token";
/// The oldest server whose sessions notice while they wait that their client is gone.
const OLDEST: u32 = 140_000;

const MOVES: &str = "a pooler moves sessions between processes of the server, so that locks would \
                     be lost: connect to the server itself, or pool by session";

/// Refuses sessions that do not stay with their process of the server. Neither is in use.
pub(super) async fn stay(one: &Session, two: &Session) -> Result<()> {
    // A pooler that moves them by statement refuses the transaction.
    let moves = |_| one.refuse(MOVES);
    let mut stay = !one.has_backend_of(two);
    stay &= two.is_same("BEGIN").await.map_err(moves)?;
    stay &= one.is_same("").await?;
    stay &= two.is_same("COMMIT").await.map_err(moves)?;
    stay &= one.is_same("").await? && one.is_same("").await?;
    if stay { Ok(()) } else { Err(one.refuse(MOVES)) }
}

/// Refuses a session that is seen to change its process.
pub(super) async fn seems_to_stay(session: &Session) -> Result<()> {
    match session.is_same("").await? {
        true => Ok(()),
        false => Err(session.refuse(MOVES)),
    }
}

/// Sets up a session that stays with its process, and refuses a server that cannot keep locks. Says
/// why grants carry no token, if that is not by choice.
pub(super) async fn set_up(session: &mut Session, config: &Config) -> Result<Option<String>> {
    let about = "SELECT pg_catalog.current_setting('server_version_num'), \
                 pg_catalog.pg_is_in_recovery(), \
                 pg_catalog.version() OPERATOR(pg_catalog.~~) '%linux%'";
    let rows = session.ask(about).await?;
    let text = |column| rows.first().and_then(|row| row.get(column));
    let version = text(0).and_then(|text| text.parse::<u32>().ok());
    if version.is_none_or(|version| version < OLDEST) {
        return Err(session.refuse("it is older than PostgreSQL 14"));
    }
    if text(1) != Some("f") {
        return Err(session.refuse("it is a standby, whose locks do not exclude others"));
    }
    session.ask(&settings(config, text(2) == Some("t"))).await?;
    if config.fencing == Fencing::Off {
        return Ok(None);
    }
    match sequence(session).await {
        Ok(()) => {
            session.fenced = true;
            Ok(None)
        }
        Err(e) if config.fencing == Fencing::Require => Err(e),
        Err(e) => Ok(Some(format!("grants carry no token: {e}"))),
    }
}

/// The settings of the session, as one statement. Those that the server does not know are left out.
fn settings(config: &Config, linux: bool) -> String {
    let idle = seconds(config.ttl / 2);
    // One a second: the server must not give up before the time to live is over.
    let probes = seconds(config.ttl).saturating_sub(idle) + 2;
    // Only there can all servers see while they wait that their client is gone.
    let check = if linux { 1000 } else { 0 };
    let values = [
        // No limit of the role ends a wait, or a session that holds a lock and is idle otherwise.
        ("lock_timeout", 0),
        ("statement_timeout", 0),
        ("transaction_timeout", 0),
        ("idle_session_timeout", 0),
        ("idle_in_transaction_session_timeout", 0),
        ("tcp_keepalives_idle", idle.into()),
        ("tcp_keepalives_interval", 1),
        ("tcp_keepalives_count", probes.into()),
        ("tcp_user_timeout", config.ttl.as_millis()),
        ("client_connection_check_interval", check),
    ];
    let values = values.map(|(name, value)| format!("('{name}', '{value}')"));
    format!(
        "SELECT pg_catalog.set_config('search_path', 'pg_catalog', false), \
         pg_catalog.set_config('default_transaction_read_only', 'off', false); \
         SELECT pg_catalog.set_config(s.name, v.value, false) \
         FROM (VALUES {}) v(name, value) JOIN pg_catalog.pg_settings s ON s.name = v.name; \
         SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
         WHERE pg_catalog.current_setting('synchronous_commit') = 'off'",
        values.join(", ")
    )
}

/// Makes sure of a sequence that gives each value once, in ascending order. Creates it if it is
/// missing and this role may.
async fn sequence(session: &Session) -> Result<()> {
    let sound = format!(
        "SELECT seqcache = 1 AND seqincrement > 0 AND NOT seqcycle, \
         has_sequence_privilege(seqrelid, 'USAGE') \
         FROM pg_sequence WHERE seqrelid = to_regclass('{SEQUENCE}')"
    );
    let mut found = session.ask(&sound).await?;
    if found.is_empty() {
        let may = "SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace \
                   WHERE nspname = 'public'";
        let may = session.ask(may).await?;
        if may.first().and_then(|row| row.get(0)) != Some("t") {
            let why = format!("no sequence {SEQUENCE}, and no permission to create it");
            return Err(Error::new(ErrorKind::PermissionDenied, why));
        }
        let create = format!("CREATE SEQUENCE IF NOT EXISTS {SEQUENCE}");
        let created = session.ask(&create).await;
        found = session.ask(&sound).await?;
        if found.is_empty() {
            created?;
        }
    }
    let found = found.first();
    if found.and_then(|row| row.get(0)) != Some("t") {
        let why = format!("the sequence {SEQUENCE} has a cache or a cycle, or descends");
        return Err(session.refuse(&why));
    }
    if found.and_then(|row| row.get(1)) != Some("t") {
        let why = format!("no permission to use the sequence {SEQUENCE}");
        return Err(Error::new(ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// What takes the next token, in SQL.
pub(super) fn next_token(session: &Session) -> String {
    match session.fenced {
        true => format!("pg_catalog.nextval('{SEQUENCE}')"),
        false => "0".to_owned(),
    }
}

/// The token of an answer to that.
pub(super) fn token(session: &Session, answer: &str) -> Option<u64> {
    answer.parse().ok().filter(|_| session.fenced)
}
