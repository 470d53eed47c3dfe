"""Makes a database of a kind: KIND PATH KEY, where KEY is the key of the lock in the table."""
import os, sqlite3, sys

kind, path, key = sys.argv[1:]
TABLE = "locks (lock_file varchar(32), unique_name varchar(32))"
# Each of these comparisons takes most of a second, during which SQLite does not check for interrupts.
# There could be hundreds of them.
SLOW = " or ".join(["hex(zeroblob(16000)) like '%' || hex(zeroblob(6000)) || '1'"] * 2)
ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c)"


def run(*statements, at=path):
    db = sqlite3.connect(at)
    for statement in statements:
        db.execute(statement, {"key": key} if ":key" in statement else {})
    db.commit()
    db.close()


def rows(count, of=None):
    db = sqlite3.connect(path)
    db.execute("create table " + TABLE)
    db.executemany("insert into locks values (?, ?)", ((of or f"/x/{n}.lock", f"vm.{n}-{n}") for n in range(count)))
    db.commit()
    db.close()


def generated(expression):
    # In this order, so that nothing computes it here.
    run("create table locks (lock_file varchar(32))", "insert into locks values (:key)",
        f"alter table locks add column unique_name generated always as ({expression})")


quoted = "'" + key.replace("'", "''") + "'"
match kind:
    case "plain table":
        run("create table " + TABLE)
    case "endless view":
        run(f"create view locks as {ENDLESS} select {quoted} as lock_file, null as unique_name from c where x < 0")
    case "view with huge rows":
        run(f"create view locks as {ENDLESS} select {quoted} as lock_file, hex(zeroblob(400000000)) as unique_name from c")
    case "endless triggers":
        run("create table " + TABLE, "create table other (x)")
        for what in ["insert", "delete", "update"]:
            run(f"create trigger on_{what} before {what} on locks begin "
                "insert into other select a.rowid from sqlite_schema a, sqlite_schema b, sqlite_schema c; "
                f"update other set x = (select count(*) from ({ENDLESS} select x from c limit 1000000000)); end")
        run("insert into other values (1)")
    case "virtual table":
        run("create virtual table locks using fts5(lock_file, unique_name)")
    case "virtual table of no module":
        run("create table " + TABLE)
        db = sqlite3.connect(path)
        db.execute("pragma writable_schema = on")
        db.execute("update sqlite_schema set rootpage = 0, sql = 'create virtual table locks using nothing(x)'")
        db.commit()
    case "huge generated column":
        generated("hex(zeroblob(400000000))")
    case "slow generated column":
        generated(f"iif({SLOW}, 'a', 'b')")
    case "slow check":
        run("create table " + TABLE[:-1] + f", check (not ({SLOW})))")
    case "slow index":
        run("create table " + TABLE, f"create index slow on locks (({SLOW}))")
    case "slow partial index":
        run("create table " + TABLE, f"create index slow on locks (lock_file) where {SLOW}")
    case "a million rows of others":
        rows(1_000_000)
    case "a million rows of the lock":
        rows(1_000_000, key)
    case "a long row":
        run("create table " + TABLE, "insert into locks values (:key, hex(zeroblob(25000000)))")
    case "a large schema":
        run("create table " + TABLE, "pragma writable_schema = on",
            f"insert into sqlite_schema select 'view', 'v' || x, 'v' || x, 0, 'create view v' || x || ' as select ' || "
            f"hex(zeroblob(1000)) || ' as x' from ({ENDLESS} select x from c limit 20000)")
    case "a long definition":
        run("create table " + TABLE[:-1] + ", check (" + " or ".join(["lock_file > 'a'"] * 900) + "))")
    case "a journal left behind" | "a log left behind":
        # Left by another process that was killed within a long transaction.
        child = os.fork()
        if child == 0:
            db = sqlite3.connect(path, isolation_level=None)
            if kind == "a log left behind":
                db.execute("pragma journal_mode = wal")
                db.execute("pragma wal_autocheckpoint = 0")
            db.execute("pragma synchronous = off")
            db.execute("pragma cache_size = 10")
            db.execute("create table " + TABLE)
            db.execute("create table other (x)")
            db.execute(f"insert into other select randomblob(4000) from ({ENDLESS} select x from c limit 3000)")
            db.execute("begin")
            db.execute("update other set x = randomblob(4000)")
            if kind == "a log left behind":
                db.execute("commit")
            os.kill(os.getpid(), 9)
        os.waitpid(child, 0)
    case "no database":
        with open(path, "wb") as file:
            file.write(b"SQLite format 3\0" + os.urandom(1 << 20))
    case "a page that is its own parent":
        rows(10_000)
        with open(path, "r+b") as file:
            # Each page of the table is an inner page with the second page as all its children.
            size = os.path.getsize(path) // 4096
            for page in range(1, size):
                file.seek(page * 4096)
                file.write(b"\x05\0\0\0\x01\x0f\xfb\0" + (2).to_bytes(4, "big") + b"\x0f\xfb")
                file.seek(page * 4096 + 4091)
                file.write((2).to_bytes(4, "big") + b"\x01")
    case "a link to a database":
        run("create table theirs (x)", at=os.path.join(os.path.dirname(path), "../elsewhere/theirs"))
        os.symlink("../elsewhere/theirs", path)
    case "a link to nothing":
        os.symlink("../elsewhere/made", path)
    case "a pipe":
        os.mkfifo(path)
    case "a directory":
        os.mkdir(path)
    case _:
        sys.exit("unknown: " + kind)
