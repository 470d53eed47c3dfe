// The test guest in TypeScript: the world `polyglot` by means of the package `locket`. Where the one
// in JavaScript calls `withLock`, it says `using`.

import { LockFile, LockError, type Mode, type OpenOptions, type Protocol } from "locket-guest";
import { read, write } from "locket:test/counter@0.1.0";

const PROTOCOLS: readonly string[] =
  ["native", "flock", "fcntl", "link", "symlink", "mkdir", "pid-file", "soft", "sqlite"];

interface Opened {
  lock: LockFile;
  options: OpenOptions;
}

class Inside extends Error {
  override message = "inside";
}

const opened = new Map<string, Opened>();

export function run(command: string): string {
  const [verb, name, ...words] = command.split(" ") as [string, string, ...string[]];
  if (verb === "trap") throw new Error("told to");
  try {
    if (verb === "open") {
      open(name, words);
      return "ok";
    }
    const found = opened.get(name);
    if (found === undefined) return "err closed";
    const result = obey(found, verb, name, words);
    return result === undefined ? "ok" : `ok ${result}`;
  } catch (error) {
    if (!(error instanceof LockError)) return `err other ${error}`;
    return error.reason === undefined ? `err ${error.code}` : `err ${error.code} ${error.reason}`;
  }
}

function open(name: string, words: string[]): void {
  const last = words.at(-1)!;
  const options: OpenOptions = {};
  if (PROTOCOLS.includes(last)) {
    options.protocol = last as Protocol;
    words.pop();
  }
  opened.set(name, { lock: new LockFile(words.join(" "), options), options });
}

function obey({ lock, options }: Opened, verb: string, name: string, words: string[]): unknown {
  switch (verb) {
    case "acquire": {
      const [mode, timeout] = words as [Mode, string];
      lock.acquire({ mode, timeout: millis(timeout) });
      return;
    }
    case "release":
      return lock.release();
    case "is-locked":
      return lock.isLocked();
    case "state": {
      const reason = lock.lost();
      if (reason !== undefined) return `lost ${reason}`;
      return lock.isHeld() ? "held" : "unlocked";
    }
    case "drop":
      lock[Symbol.dispose]();
      opened.delete(name);
      return;
    case "scoped":
      try {
        using _held = LockFile.acquire(lock.path, { ...options, timeout: millis(words[0]!) });
        throw new Inside();
      } catch (error) {
        if (error instanceof Inside) return error.message;
        throw error;
      }
    case "count":
      for (let i = 0; i < Number(words[0]); i++) {
        using _held = LockFile.acquire(lock.path, options);
        write(read() + 1);
      }
      return;
    default:
      throw new TypeError(`there is no command ${verb}`);
  }
}

function millis(timeout: string): number | undefined {
  return timeout === "none" ? undefined : Number(timeout);
}
