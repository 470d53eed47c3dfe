/**
 * File locks for WebAssembly components, shared with other guests and native processes on the host.
 *
 *     const lock = new LockFile("/jobs/app.lock");
 *     const failure = lock.holding(30_000, () => work());
 *     if (failure != null) report(failure);
 *     lock.close();
 *
 * A function that can fail returns null or the name of the error as the interface spells it, such as
 * "would-block" or "lost broken", because AssemblyScript cannot catch exceptions. It has no finalizers
 * either, so call `close` to release a lock.
 *
 * This uses the raw interface with AssemblyScript's own strings: encode the component as UTF-16.
 */

// @ts-ignore: decorator
@external("locket:lock/api@0.1.0", "[static]lock-file.open-with")
declare function openWith(path: usize, length: i32, hasProtocol: bool, protocol: i32, onRelease: i32, result: usize): void;
// @ts-ignore: decorator
@external("locket:lock/api@0.1.0", "[method]lock-file.acquire")
declare function acquire(lock: i32, mode: i32, hasTimeout: bool, timeout: u32, result: usize): void;
// @ts-ignore: decorator
@external("locket:lock/api@0.1.0", "[method]lock-file.release")
declare function release(lock: i32, result: usize): void;
// @ts-ignore: decorator
@external("locket:lock/api@0.1.0", "[method]lock-file.is-locked")
declare function isLocked(lock: i32, result: usize): void;
// @ts-ignore: decorator
@external("locket:lock/api@0.1.0", "[method]lock-file.state")
declare function state(lock: i32, result: usize): void;
// @ts-ignore: decorator
@external("locket:lock/api@0.1.0", "[resource-drop]lock-file")
declare function drop(lock: i32): void;

/** Where the host writes results. It has the size and alignment of the largest, that of acquire. */
const RESULT = memory.data(32, 8);

const ERRORS = [
  "would-block", "timeout", "not-locked", "not-owner", "deadlock", "access-denied", "no-entry",
  "invalid-path", "limit-exceeded", "not-supported", "unavailable", "lost", "canceled", "io", "other",
];
const LOST = ["expired", "broken", "disconnected", "io"];
const IO = ["no-space", "quota", "read-only", "stale", "too-many-files", "too-many-locks", "other"];

/** The error in a result whose payload is at `payload`; null if the call succeeded. */
function failure(payload: usize): string | null {
  if (!load<u8>(RESULT)) return null;
  const error = ERRORS[load<u8>(RESULT + payload)];
  const detail = RESULT + payload + 4;
  if (error == "lost") return "lost " + LOST[load<u8>(detail)];
  if (error == "io") return "io " + IO[load<u8>(detail)];
  // The host may have returned a text, which cabi_realloc allocated.
  if (error == "other" && load<u8>(detail)) heap.free(load<usize>(detail, 4));
  return error;
}

/** Allocates memory for strings from the host. The component must export it. */
export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  return old ? heap.realloc(old, size) : heap.alloc(size);
}

export enum Mode { Exclusive, Shared }

/** The locking mechanism, and thus which other programs the lock excludes. */
export enum Protocol { Default = -1, Native, Flock, Fcntl, Link, Symlink, Mkdir, PidFile, Soft, Sqlite }

/** The timeout that waits indefinitely. Others are in milliseconds, at most 49 days; 0 tries once. */
export const FOREVER: i64 = -1;

/** A handle to the lock of one file. */
export class LockFile {
  private handle: i32 = 0;
  /** Why the lock could not be opened; null if it is open. */
  readonly failure: string | null;

  /** Opens the lock of the file at `path`, and creates the file if it is missing and may be created.
   * Does not acquire the lock. */
  constructor(path: string, protocol: Protocol = Protocol.Default, removeOnRelease: bool = false) {
    const hasProtocol = protocol != Protocol.Default;
    openWith(changetype<usize>(path), path.length, hasProtocol, hasProtocol ? protocol : 0, i32(removeOnRelease), RESULT);
    this.failure = failure(4);
    if (this.failure == null) this.handle = load<i32>(RESULT, 4);
  }

  /** Releases the holds acquired through this handle. Its methods then fail with "closed". */
  close(): void {
    if (this.handle) drop(this.handle);
    this.handle = 0;
  }

  /** Acquires the lock, waiting for at most `timeout`. It stays held until it is released. */
  acquire(mode: Mode = Mode.Exclusive, timeout: i64 = FOREVER): string | null {
    if (!this.handle) return "closed";
    const millis = timeout > i64(u32.MAX_VALUE) ? u32.MAX_VALUE : u32(timeout);
    acquire(this.handle, mode, timeout >= 0, millis, RESULT);
    return failure(8);
  }

  /** Releases one hold. */
  release(): string | null {
    if (!this.handle) return "closed";
    release(this.handle, RESULT);
    return failure(4);
  }

  /** Acquires the lock exclusively, calls `work` and releases the lock. Returns the result of `work`,
   * which is null or an error of its own, unless the lock fails. */
  holding(timeout: i64, work: () => string | null): string | null {
    const acquired = this.acquire(Mode.Exclusive, timeout);
    if (acquired != null) return acquired;
    const worked = work();
    const released = this.release();
    return released != null ? released : worked;
  }

  /** Whether the lock is held, by this component or another holder: "true", "false", or an error. */
  isLocked(): string {
    if (!this.handle) return "closed";
    isLocked(this.handle, RESULT);
    const failed = failure(4);
    if (failed != null) return failed;
    return load<u8>(RESULT, 4) ? "true" : "false";
  }

  /** The state of this component's own hold: "unlocked", "held", "uncertain", or why it was lost. */
  state(): string {
    if (!this.handle) return "unlocked";
    state(this.handle, RESULT);
    switch (load<u8>(RESULT)) {
      case 0: return "unlocked";
      case 1: return "held";
      case 2: return "uncertain";
      default: return "lost " + LOST[load<u8>(RESULT, 8)];
    }
  }
}
