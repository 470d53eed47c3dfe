//! `locket exec` on a terminal: the keyboard's signals reach the command once, and a shell sees what
//! it expects.

use std::process::Command;

use crate::support::{Dir, output};

/// Starts `argv` on a new terminal, as the leader of a session. `until` reads what it prints up to a
/// word.
const TERMINAL: &str = "import os, pty, re, select, signal, sys, time
locket, lock = sys.argv[1:3]
def start(*argv):
    global fd, seen
    seen = ''
    pid, fd = pty.fork()
    if pid == 0: os.execvp(argv[0], argv)
    return pid
def more():
    global seen
    if not select.select([fd], [], [], 60)[0]: sys.exit(f'nothing more after {seen!r}')
    try: data = os.read(fd, 4096).decode()
    except OSError: data = ''
    seen += data
    return data
def until(word):
    while not re.search(word, seen):
        if not more(): sys.exit(f'no {word} in {seen!r}')
def rest():
    while more(): pass
    return seen
";

/// Runs a Python script that commands terminals.
fn on_terminals(script: &str) {
    let dir = Dir::new();
    let mut python = Command::new("python3");
    python.arg("-c").arg(format!("{TERMINAL}{script}"));
    python.arg(env!("CARGO_BIN_EXE_locket"));
    python.arg(dir.path("lock"));
    let output = output(python);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_interrupt_ends_a_loop() {
    on_terminals(
        "command = 'import time; print(\\'go\\', flush=True); time.sleep(600)'
with open(lock + '.py', 'w') as script: script.write(command)
start('bash', '-c', f'for i in 1 2 3; do echo round $i; {locket} exec {lock} -- python3 {lock}.py; done; echo end')
until('go')
os.write(fd, b'\\x03')
seen = rest()
assert 'round 2' not in seen and 'end' not in seen, seen",
    );
}

#[test]
fn an_interrupt_from_the_keyboard_arrives_once() {
    on_terminals(
        "counts = '''import os, signal
got = []
woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
signal.signal(signal.SIGINT, lambda *_: got.append(2))
signal.signal(signal.SIGUSR1, lambda *_: got.append(10))
print('go', flush=True)
while 10 not in got: os.read(woken, 1)
print('got', *got, flush=True)'''
pid = start(locket, 'exec', lock, '--', 'python3', '-c', counts)
until('go')
os.write(fd, b'\\x03')
until(r'\\^C')
os.kill(pid, signal.SIGUSR1)
until('got')
assert 'got 2 10' in rest(), seen",
    );
}

#[test]
fn a_job_is_stopped_and_continued() {
    on_terminals(
        "command = '''import os, signal, sys
signal.signal(signal.SIGCONT, lambda *_: print('awake', flush=True))
print('go', os.getpid(), '.', flush=True)
line = sys.stdin.readline()
print('line', line, flush=True)
sys.exit(3)'''
with open(lock + '.py', 'w') as script: script.write(command)
def type(line): os.write(fd, line.encode() + b'\\n')
start('bash', '--norc', '-i')
type(f'{locket} exec {lock} -- python3 {lock}.py')
until(r'go \\d+ \\.')
command = re.search(r'go (\\d+)', seen)[1]
os.write(fd, b'\\x1a')
until('Stopped')
# The shell waits for its child alone: until the command has stopped, too, it may read what is typed.
while ') T ' not in open(f'/proc/{command}/stat').read(): time.sleep(.001)
type(f'flock -n {lock} true || echo h\\'\\'eld')
until('held')
type('fg')
until('awake')
type('x')
until('line x')
type('echo code=$?')
until('code=3')
type('exit')
rest()",
    );
}

#[test]
fn a_terminal_that_hangs_up_ends_the_command() {
    on_terminals(
        "import subprocess
# The leader of the session alone is told.
start(locket, 'exec', lock, '--', 'sh', '-c', 'echo go; sleep 600')
until('go')
os.close(fd)
sys.exit(subprocess.call(['flock', '-w', '60', lock, 'true']))",
    );
}

#[test]
fn two_terminals_take_turns() {
    on_terminals(
        "start(locket, 'exec', lock, '--', 'sh', '-c', 'echo go; read line')
until('go')
first = fd
start(locket, 'exec', '-v', lock, '--', 'echo', 'mine')
until('waiting')
second = fd
fd = first
os.write(fd, b'\\n')
rest()
fd, seen = second, ''
assert 'mine' in rest(), seen",
    );
}
