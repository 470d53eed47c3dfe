/**
 * File locks for WebAssembly components, shared with other components and native processes on the
 * host.
 *
 * @example
 * withLock("/jobs/app.lock", { timeout: 30_000 }, () => {
 *   // The lock is held until this function returns or throws.
 * });
 *
 * @packageDocumentation
 */

/** Whether the lock has one holder (`exclusive`, a writer) or any number (`shared`, readers). */
export type Mode = "exclusive" | "shared";

/** The locking mechanism, and thus which other programs the lock excludes; see `locket:lock`. */
export type Protocol =
  | "native" | "flock" | "fcntl"
  | "link" | "symlink" | "mkdir" | "pid-file" | "soft" | "sqlite";

/** How to open a lock. An option that does not exist throws a `TypeError`. */
export interface OpenOptions {
  /** The protocol. By default, the host chooses. */
  protocol?: Protocol;
  /** What happens to the lock file on release. The default is `keep`. */
  onRelease?: "keep" | "remove";
}

/** How to acquire a lock. An option that does not exist throws a `TypeError`. */
export interface AcquireOptions {
  /**
   * How many milliseconds to wait. 0 tries once. By default, waits indefinitely. A value that is not a
   * number from 0 to 4294967295 throws a `RangeError` or a `TypeError`.
   */
  timeout?: number | null;
  /** The mode. The default is `exclusive`. */
  mode?: Mode;
}

/** A granted hold. */
export interface Grant {
  /** The fencing token: strictly increasing over the exclusive grants of one lock. */
  token?: bigint;
  /** How many milliseconds the hold lasts. If missing, it lasts until it is released. */
  validFor?: number;
}

/** Why a lock was lost. */
export type LostReason = "expired" | "broken" | "disconnected" | "io";

/** The name of an error, as `locket:lock` spells it. */
export type Code =
  | "would-block" | "timeout" | "not-locked" | "not-owner" | "deadlock" | "access-denied"
  | "no-entry" | "invalid-path" | "limit-exceeded" | "not-supported" | "unavailable" | "lost"
  | "canceled" | "io" | "other";

/** A call on a lock did not succeed. The message is one sentence that names the lock. */
export class LockError extends Error {
  protected constructor();
  readonly code: Code;
  /** The path with which the lock was opened. */
  readonly path: string;
  /** Details of the error: why the lock was `lost`, which kind of `io` failed, or a text. */
  readonly reason?: string;
}

/** The lock was held until the timeout ran out: `timeout`, or `would-block` if it was 0. */
export class LockTimeoutError extends LockError {
  readonly code: "timeout" | "would-block";
}

/**
 * The lock of one file.
 *
 * @example
 * using lock = LockFile.acquire("/jobs/app.lock", { timeout: 30_000 });
 * // The lock is held until the end of this block.
 */
export class LockFile implements Disposable {
  /** Opens the lock of the file at `path`, and creates the file if it is missing. */
  constructor(path: string, options?: OpenOptions);

  /** Opens a lock and acquires it. Disposing of the object releases the lock. */
  static acquire(path: string, options?: OpenOptions & AcquireOptions): LockFile;

  /** The path that was opened. */
  readonly path: string;

  /** Acquires the lock: immediately if it is free, otherwise waits. Nothing else runs meanwhile. */
  acquire(options?: AcquireOptions): Grant;

  /** Releases the lock. Throws if it is not held or was `lost`. */
  release(): void;

  /** Whether the lock is held. The answer is valid only at the moment of the call. */
  isLocked(): boolean;

  /** Whether this component holds the lock, through this object or another. */
  isHeld(): boolean;

  /** Why this component no longer holds the lock although it did not release it. */
  lost(): LostReason | undefined;

  /** Releases the holds acquired through this object, which can then no longer be used. */
  [Symbol.dispose](): void;
}

/**
 * Runs `body` while the lock is held, and releases the lock on every way out of `body`. `body` must not
 * be async, because the lock would be released at its first `await`.
 *
 * @param lock the lock, or the path of one
 * @param options how to acquire it, and for a path also how to open it
 * @returns what `body` returns
 */
export function withLock<T>(lock: LockFile, options: AcquireOptions, body: Body<T>): T;
export function withLock<T>(path: string, options: OpenOptions & AcquireOptions, body: Body<T>): T;
export function withLock<T>(lock: string | LockFile, body: Body<T>): T;

type Body<T> = (() => T) & (T extends PromiseLike<unknown> ? never : unknown);
