// What the package promises beyond the world `polyglot`, as checks that an engine can run.

import { LockError, LockFile, LockTimeoutError, withLock } from "locket-guest";

const PATH = "/locks/checks";

const checks = {
  "a path is a well-formed string"() {
    for (const path of [undefined, null, 7, {}]) throws(TypeError, () => new LockFile(path));
    const error = throws(LockError, () => new LockFile("/locks/\ud800"));
    equal(error.code, "invalid-path");
  },

  "options are what they can be"() {
    throws(RangeError, () => new LockFile(PATH, { protocol: "nfs" }));
    throws(RangeError, () => new LockFile(PATH, { onRelease: "burn" }));
    using lock = new LockFile(PATH);
    throws(RangeError, () => lock.acquire({ mode: "upgrade" }));
    throws(RangeError, () => lock.acquire({ mode: null }));
    for (const misspelt of [{ timeuot: 0 }, { onrelease: "keep" }]) {
      throws(TypeError, () => lock.acquire(misspelt));
      throws(TypeError, () => new LockFile(PATH, misspelt));
      throws(TypeError, () => LockFile.acquire(PATH, misspelt));
      throws(TypeError, () => withLock(PATH, misspelt, () => {}));
      throws(TypeError, () => withLock(lock, misspelt, () => {}));
    }
  },

  "a timeout is a time"() {
    using lock = new LockFile(PATH);
    for (const timeout of [NaN, -1, -Infinity, 4294967296, 4294967295.5]) {
      const error = throws(RangeError, () => lock.acquire({ timeout }));
      equal(error.message.includes(String(timeout)), true);
    }
    for (const timeout of ["1", 1n, {}]) throws(TypeError, () => lock.acquire({ timeout }));
    for (const timeout of [undefined, null, Infinity, 0, -0, 0.5, 4294967295]) {
      lock.acquire({ timeout });
      lock.release();
    }
  },

  "an error says what and where"() {
    const error = throws(LockError, () => new LockFile("/elsewhere"));
    equal(error.code, "access-denied");
    equal(error.path, "/elsewhere");
    equal(error.reason, undefined);
    equal(String(error), "LockError: access to lock '/elsewhere' is denied");
    equal(error instanceof LockTimeoutError, false);
  },

  "what is held is a timeout"() {
    using lock = LockFile.acquire(PATH);
    const error = throws(LockTimeoutError, () => LockFile.acquire(PATH, { timeout: 0 }));
    equal(error.code, "would-block");
    equal(error.name, "LockTimeoutError");
    equal(lock.isHeld(), true);
  },

  "a grant has a token only where there is one"() {
    using lock = new LockFile(PATH);
    const { token, validFor } = lock.acquire();
    equal(token, undefined);
    equal(validFor, undefined);
  },

  "disposal releases, and is final"() {
    const lock = LockFile.acquire(PATH);
    equal(lock.isLocked(), true);
    lock[Symbol.dispose]();
    lock[Symbol.dispose]();
    throws(ReferenceError, () => lock.acquire());
    throws(ReferenceError, () => lock.isHeld());
    equal(lock.path, PATH);
    free();
  },

  "a block releases on every way out"() {
    const early = () => {
      using lock = LockFile.acquire(PATH);
      return lock.isHeld();
    };
    equal(early(), true);
    free();
    throws(SyntaxError, () => {
      using _lock = LockFile.acquire(PATH);
      throw new SyntaxError("inside");
    });
    free();
  },

  "withLock returns what the function does"() {
    equal(withLock(PATH, {}, () => 7), 7);
    equal(withLock(PATH, () => 7), 7);
    throws(TypeError, () => withLock(PATH, { timeout: 0 }));
    equal(withLock(PATH, undefined, () => undefined), undefined);
    free();
    using lock = new LockFile(PATH);
    equal(withLock(lock, { mode: "shared" }, () => lock.isHeld()), true);
    equal(lock.isHeld(), false);
  },

  "withLock does not run what it has no lock for"() {
    using _lock = LockFile.acquire(PATH);
    throws(LockTimeoutError, () => withLock(PATH, { timeout: 0 }, () => equal("run", "not run")));
  },

  "withLock notices what runs on after it"() {
    throws(TypeError, () => withLock(PATH, {}, async () => 7));
    free();
  },

  "withLock notices a release inside"() {
    using lock = new LockFile(PATH);
    const error = throws(LockError, () => withLock(lock, {}, () => lock.release()));
    equal(error.code, "not-locked");
    throws(SyntaxError, () => withLock(lock, {}, () => {
      lock.release();
      throw new SyntaxError("inside");
    }));
  },

  "readers share"() {
    using _one = LockFile.acquire(PATH, { mode: "shared", timeout: 0 });
    using _other = LockFile.acquire(PATH, { mode: "shared", timeout: 0 });
    throws(LockTimeoutError, () => LockFile.acquire(PATH, { timeout: 0 }));
  },

  "a file is removed on demand"() {
    withLock("/locks/checks-removed", { onRelease: "remove" }, () => {});
  },
};

/** Runs them all; returns the names of those that fail, and why. */
export function run() {
  const failed = [];
  for (const [name, check] of Object.entries(checks)) {
    try {
      check();
    } catch (error) {
      failed.push(`${name}: ${error}`);
    }
  }
  return failed.join("; ") || `${Object.keys(checks).length} checks`;
}

function throws(kind, what) {
  try {
    what();
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error(`nothing was thrown by ${what}`);
}

function equal(found, expected) {
  if (!Object.is(found, expected)) throw new Error(`${String(found)} is not ${String(expected)}`);
}

function free() {
  LockFile.acquire(PATH, { timeout: 0 })[Symbol.dispose]();
}
