// The test guest in JavaScript: the world `polyglot` by means of the package `locket`.

import { LockFile, LockError, withLock } from "locket-guest";
import * as checks from "./checks.js";
import { read, write } from "locket:test/counter@0.1.0";

const PROTOCOLS = "native flock fcntl link symlink mkdir pid-file soft sqlite".split(" ");

const locks = new Map();

export function run(command) {
  const [verb, name, ...words] = command.split(" ");
  if (verb === "trap") throw new Error("told to");
  if (verb === "check") return checks.run();  // not of the world, but see tests/javascript.rs
  if (verb !== "open" && !locks.has(name)) return "err closed";
  try {
    const result = COMMANDS[verb](name, ...words);
    return result === undefined ? "ok" : `ok ${result}`;
  } catch (error) {
    if (!(error instanceof LockError)) return `err other ${error}`;
    return error.reason === undefined ? `err ${error.code}` : `err ${error.code} ${error.reason}`;
  }
}

const COMMANDS = {
  "open"(name, ...words) {
    const protocol = PROTOCOLS.find((protocol) => protocol === words.at(-1));
    const path = words.slice(0, protocol ? -1 : undefined).join(" ");
    locks.set(name, new LockFile(path, { protocol }));
  },
  "acquire"(name, mode, timeout) {
    locks.get(name).acquire({ mode, timeout: millis(timeout) });
  },
  "release"(name) {
    locks.get(name).release();
  },
  "is-locked"(name) {
    return locks.get(name).isLocked();
  },
  "state"(name) {
    const lock = locks.get(name);
    const reason = lock.lost();
    if (reason !== undefined) return `lost ${reason}`;
    return lock.isHeld() ? "held" : "unlocked";
  },
  "drop"(name) {
    locks.get(name)[Symbol.dispose]();
    locks.delete(name);
  },
  "scoped"(name, timeout) {
    try {
      withLock(locks.get(name), { timeout: millis(timeout) }, () => {
        throw new SyntaxError("inside");
      });
    } catch (error) {
      if (error instanceof SyntaxError) return error.message;
      throw error;
    }
  },
  "count"(name, times) {
    for (let i = 0; i < Number(times); i++) {
      withLock(locks.get(name), {}, () => write(read() + 1));
    }
  },
};

function millis(timeout) {
  return timeout === "none" ? undefined : Number(timeout);
}
