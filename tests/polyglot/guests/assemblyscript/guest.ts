// The test guest in AssemblyScript.

import { FOREVER, LockFile, Mode, Protocol } from "../../../../guest/assemblyscript/locket";
export { cabi_realloc } from "../../../../guest/assemblyscript/locket";

// @ts-ignore: decorator
@external("locket:test/counter@0.1.0", "read")
declare function readCounter(): u32;
// @ts-ignore: decorator
@external("locket:test/counter@0.1.0", "write")
declare function writeCounter(value: u32): void;

const locks = new Map<string, LockFile>();
const PROTOCOLS = ["native", "flock", "fcntl", "link", "symlink", "mkdir", "pid-file", "soft", "sqlite"];

/** Milliseconds, or `none`; null where it is neither. */
class Timeout {
  constructor(readonly millis: i64) {}

  static parse(text: string): Timeout | null {
    if (text == "none") return new Timeout(FOREVER);
    const number = F64.parseFloat(text);
    if (!(number >= 0)) return null;
    return new Timeout(i64(Math.min(number, f64(u32.MAX_VALUE))));
  }
}

function told(failure: string | null): string {
  return failure == null ? "ok" : "err " + failure;
}

function open(name: string, words: string): string {
  const space = words.lastIndexOf(" ");
  const protocol = PROTOCOLS.indexOf(words.substring(space + 1));
  const path = protocol < 0 || space < 0 ? words : words.substring(0, space);
  const lock = new LockFile(path, <Protocol>protocol);
  if (lock.failure == null) {
    if (locks.has(name)) locks.get(name).close();
    locks.set(name, lock);
  }
  return told(lock.failure);
}

function count(): string | null {
  writeCounter(readCounter() + 1);
  return null;
}

function obey(command: string): string {
  const words = command.split(" ");
  const verb = words[0];
  if (verb == "trap") unreachable();
  const name = words[1];
  if (verb == "open") return open(name, command.substring(verb.length + name.length + 2));
  if (!locks.has(name)) return "err closed";
  const lock = locks.get(name);
  if (verb == "acquire") {
    const timeout = Timeout.parse(words[3]);
    if (timeout == null) return "err usage";
    return told(lock.acquire(words[2] == "shared" ? Mode.Shared : Mode.Exclusive, timeout.millis));
  }
  if (verb == "release") return told(lock.release());
  if (verb == "state") return "ok " + lock.state();
  if (verb == "is-locked") {
    const answer = lock.isLocked();
    return (answer == "true" || answer == "false" ? "ok " : "err ") + answer;
  }
  if (verb == "drop") {
    lock.close();
    locks.delete(name);
    return "ok";
  }
  if (verb == "scoped") {
    const failed = lock.holding(I64.parseInt(words[2]), () => "inside");
    return failed == "inside" ? "ok inside" : told(failed);
  }
  if (verb == "count") {
    for (let i = I32.parseInt(words[2]); i > 0; i--) {
      const failed = lock.holding(FOREVER, count);
      if (failed != null) return told(failed);
    }
    return "ok";
  }
  return "err usage";
}

// Alive until the host has read it.
let reply = "";
const REPLY = memory.data(8);

export function run(pointer: usize, length: i32): usize {
  const command = String.UTF16.decodeUnsafe(pointer, length << 1);
  heap.free(pointer);
  reply = obey(command);
  store<usize>(REPLY, changetype<usize>(reply));
  store<i32>(REPLY, reply.length, 4);
  return REPLY;
}
