# A PostgreSQL server of its own, for as long as standard input is open: `postgres.rs` sends the
# commands. Arguments: the folder of its programs, a port, and settings as `name=value`.
set -eu
programs=$1 port=$2
shift 2
dir=$(mktemp -d "${TMPDIR:-/tmp}/locket-postgres.XXXXXX")
server=

crash() {
  if [ -n "$server" ]; then
    # All of them, since a stopped one does not notice the end of the first, and a new server does not
    # start beside one of the old.
    kill -STOP "$server" 2>/dev/null || true
    children=$(cat /proc/"$server"/task/*/children 2>/dev/null || true)
    # shellcheck disable=SC2086
    kill -KILL "$server" $children 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    for child in $children; do
      while readlink "/proc/$child/exe" >/dev/null 2>&1; do sleep 0.01; done
    done
    # Else it stays until the machine restarts. Its number is in the file that a crash leaves.
    ipcrm -m "$(awk 'NR == 7 { print $2 }' "$dir/data/postmaster.pid")" 2>/dev/null || true
    rm -f /dev/shm/faketime_shm_"$server" /dev/shm/sem.faketime_sem_"$server"
    server=
  fi
}
trap 'crash; rm -rf "$dir"' EXIT
trap '' HUP INT TERM

start() {
  ${LOCKET_CLOCK:+env LD_PRELOAD="$LOCKET_CLOCK"} "$programs/postgres" -D "$dir/data" "$@" >>"$dir/log" 2>&1 </dev/null &
  server=$!
  until "$programs/pg_isready" -q -h 127.0.0.1 -p "$port"; do
    kill -0 "$server" || { cat "$dir/log" >&2; exit 1; }
    sleep 0.02
  done
  echo "$server"
}

# certificate NAME SUBJECT EXTENSIONS AUTHORITY
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" \
    -keyout "$dir/$1.key" -out "$dir/$1.csr" 2>>"$dir/log"
  printf '%s\n' "$3" >"$dir/$1.ext"
  if [ "$4" = "$1" ]; then
    set -- "$1" -signkey "$dir/$1.key"
  else
    set -- "$1" -CA "$dir/$4.crt" -CAkey "$dir/$4.key" -CAcreateserial
  fi
  name=$1
  shift
  openssl x509 -req -days 2 -in "$dir/$name.csr" -extfile "$dir/$name.ext" "$@" \
    -out "$dir/$name.crt" 2>>"$dir/log"
}

"$programs/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --no-locale --no-sync \
  --no-instructions >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
cat >"$dir/data/pg_hba.conf" <<'HBA'
local   all all                            trust
host    all guarded    127.0.0.1/32        scram-sha-256
hostssl all certified  127.0.0.1/32        cert
host    all all        127.0.0.1/32        trust
HBA
cat >>"$dir/data/postgresql.conf" <<CONF
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$dir'
fsync = off
full_page_writes = off
shared_buffers = 16MB
max_connections = 200
# In its folder, and not in one of the system, where a crash would leave it.
dynamic_shared_memory_type = mmap
CONF
for setting in "$@"; do
  case $setting in
    ssl=on)
      certificate root "/CN=root" "basicConstraints=critical,CA:TRUE" root
      certificate other "/CN=other" "basicConstraints=critical,CA:TRUE" other
      certificate server "/CN=server" "subjectAltName=DNS:localhost" root
      certificate client "/CN=certified" "basicConstraints=CA:FALSE" root
      cat >>"$dir/data/postgresql.conf" <<CONF
ssl = on
ssl_cert_file = '$dir/server.crt'
ssl_key_file = '$dir/server.key'
ssl_ca_file = '$dir/root.crt'
CONF
      ;;
    *) echo "$setting" >>"$dir/data/postgresql.conf" ;;
  esac
done
chmod 755 "$dir"
[ ! -e "$dir/client.key" ] || chmod 644 "$dir/client.key"
echo "$dir"

while read -r command; do
  case $command in
    start) start ;;
    # Sessions are told that they end.
    shut-down) kill -INT "$server" && wait "$server" || true; server=; echo ok ;;
    standby) : >"$dir/data/standby.signal"; echo ok ;;
    crash) crash; echo ok ;;
  esac
done
