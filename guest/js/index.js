// File locks for WebAssembly components, shared with other components and native processes on the
// host. index.d.ts describes the API.

import { LockFile as Handle } from "locket:lock/api@0.1.0";

const LONGEST = 0xffff_ffff;
const MODES = ["exclusive", "shared"];
const ON_RELEASE = ["keep", "remove"];
const PROTOCOLS = [
  "native", "flock", "fcntl", "link", "symlink", "mkdir", "pid-file", "soft", "sqlite",
];

const MESSAGES = {
  "would-block": (path) => `lock '${path}' is held`,
  "timeout": (path) => `lock '${path}' did not become free in time`,
  "not-locked": (path) => `lock '${path}' is not held`,
  "not-owner": (path) => `lock '${path}' is not ours to release`,
  "deadlock": (path) => `waiting for lock '${path}' could never end`,
  "access-denied": (path) => `access to lock '${path}' is denied`,
  "no-entry": (path) => `lock '${path}' does not exist`,
  "invalid-path": (path) => `'${path}' cannot be the path of a lock`,
  "limit-exceeded": (path) => `lock '${path}' exceeds a quota of this guest`,
  "not-supported": (path) => `the protocol or mode is not supported for lock '${path}'`,
  "unavailable": (path) => `the server of lock '${path}' cannot be reached`,
  "lost": (path, reason) => `lock '${path}' was lost: ${reason}`,
  "canceled": (path) => `the host canceled the wait for lock '${path}'`,
};

export class LockError extends Error {
  constructor(code, path, reason) {
    const message = MESSAGES[code] ?? ((path) => `lock '${path}' failed: ${reason ?? code}`);
    super(message(path, reason));
    this.code = code;
    this.path = path;
    this.reason = reason;
  }

  get name() {
    return this.constructor.name;
  }
}

export class LockTimeoutError extends LockError {}

export class LockFile {
  #handle;
  #path;

  constructor(path, options = {}) {
    const { protocol, onRelease = "keep", ...others } = options;
    none(others);
    if (typeof path !== "string") {
      throw new TypeError(`the path of a lock must be a string, not ${typeof path}`);
    }
    if (protocol !== undefined) oneOf(PROTOCOLS, "protocol", protocol);
    oneOf(ON_RELEASE, "onRelease", onRelease);
    // The strings of components cannot represent lone surrogates.
    if (!path.isWellFormed()) throw new LockError("invalid-path", path);
    this.#path = path;
    this.#handle = this.#ask(() => Handle.openWith(path, { protocol, onRelease }));
  }

  static acquire(path, options = {}) {
    const { timeout, mode, ...open } = options;
    const lock = new LockFile(path, open);
    try {
      lock.acquire({ timeout, mode });
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
    return lock;
  }

  get path() {
    return this.#path;
  }

  acquire(options = {}) {
    const { timeout, mode = "exclusive", ...others } = options;
    none(others);
    oneOf(MODES, "mode", mode);
    const millis = toMillis(timeout);
    const { token, validFor } = this.#ask((handle) => handle.acquire(mode, millis));
    // Engines differ in how they represent 64-bit integers and missing values.
    return { token: token == null ? undefined : BigInt(token), validFor: validFor ?? undefined };
  }

  release() {
    this.#ask((handle) => handle.release());
  }

  isLocked() {
    return this.#ask((handle) => handle.isLocked());
  }

  isHeld() {
    const { tag } = this.#ask((handle) => handle.state());
    return tag === "held" || tag === "uncertain";
  }

  lost() {
    const { tag, val } = this.#ask((handle) => handle.state());
    return tag === "lost" ? val : undefined;
  }

  [Symbol.dispose]() {
    this.#handle?.[Symbol.dispose]();
    this.#handle = null;
  }

  // Calls the host, and throws its error as a LockError.
  #ask(question) {
    if (this.#handle === null) throw new ReferenceError(`lock '${this.#path}' was disposed of`);
    try {
      return question(this.#handle);
    } catch (error) {
      const { tag, val } = error?.payload ?? {};
      if (tag === undefined) throw error;
      const Kind = tag === "timeout" || tag === "would-block" ? LockTimeoutError : LockError;
      throw new Kind(tag, this.#path, val ?? undefined);
    }
  }
}

export function withLock(lock, options, body) {
  if (typeof options === "function") return withLock(lock, {}, options);
  if (typeof body !== "function") {
    throw new TypeError(`withLock takes a function to call, not ${typeof body}`);
  }
  if (!(lock instanceof LockFile)) {
    const { timeout, mode, ...open } = options ?? {};
    const opened = new LockFile(lock, open);
    try {
      return withLock(opened, { timeout, mode }, body);
    } finally {
      opened[Symbol.dispose]();
    }
  }
  lock.acquire(options ?? {});
  let result;
  try {
    result = body();
  } catch (error) {
    try {
      lock.release();
    } catch {
      // The first error is the more informative one.
    }
    throw error;
  }
  lock.release();
  if (typeof result?.then === "function") {
    throw new TypeError("the function passed to withLock must not be async: "
      + "the lock was released before it finished");
  }
  return result;
}

function toMillis(timeout) {
  if (timeout === undefined || timeout === null || timeout === Infinity) return undefined;
  if (typeof timeout !== "number") {
    throw new TypeError(`a timeout must be a number of milliseconds, not ${typeof timeout}`);
  }
  // Round up, so that no wait ends early.
  if (timeout >= 0 && Math.ceil(timeout) <= LONGEST) return Math.ceil(timeout);
  throw new RangeError(`a timeout must be from 0 to ${LONGEST} milliseconds, not ${timeout}`);
}

// Ignored, a misspelt `timeout` would mean to wait indefinitely.
function none(options) {
  const [name] = Object.keys(options);
  if (name !== undefined) throw new TypeError(`there is no option ${name} here`);
}

function oneOf(values, name, value) {
  if (!values.includes(value)) {
    throw new RangeError(`${name} must be one of ${values.join(", ")}, not ${String(value)}`);
  }
}
