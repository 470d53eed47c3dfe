# PgBouncer before a PostgreSQL server, for as long as standard input is open. Arguments: its port,
# that of the server, and how it pools.
set -eu
port=$1 server=$2 mode=$3
dir=$(mktemp -d "${TMPDIR:-/tmp}/locket-pgbouncer.XXXXXX")
pooler=
trap 'kill -KILL $pooler 2>/dev/null || true; rm -rf "$dir"' EXIT
trap '' HUP INT TERM
echo '"postgres" ""' >"$dir/users"
cat >"$dir/config" <<CONF
[databases]
* = host=127.0.0.1 port=$server
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir = $dir
auth_type = trust
auth_file = $dir/users
pool_mode = $mode
server_round_robin = ${4:-0}
CONF
pgbouncer -q "$dir/config" >"$dir/log" 2>&1 </dev/null &
pooler=$!
until pg_isready -q -h 127.0.0.1 -p "$port"; do
  kill -0 "$pooler" || { cat "$dir/log" >&2; exit 1; }
  sleep 0.02
done
echo ok
cat >/dev/null
