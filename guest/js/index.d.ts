/**
 * File locks for WebAssembly components, shared with every other component and native process of
 * the host.
 *
 * @example
 * withLock("/jobs/app.lock", { timeout: 30_000 }, () => {
 *   // Alone on this host, until the function returns or throws.
 * });
 *
 * @packageDocumentation
 */

/** How many may hold the lock: one (`exclusive`, a writer), or all who share it (a reader). */
export type Mode = "exclusive" | "shared";

/** How a lock is kept, and so who else takes part in it; see `locket:lock`. */
export type Protocol =
  | "native" | "flock" | "fcntl"
  | "link" | "symlink" | "mkdir" | "pid-file" | "soft" | "sqlite";

/** How to open a lock. */
export interface OpenOptions {
  /** The choice of the host, if left out. */
  protocol?: Protocol;
  /** What becomes of the lock file on release: `keep`, if left out. */
  onRelease?: "keep" | "remove";
}

/** How to acquire a lock. */
export interface AcquireOptions {
  /**
   * For how many milliseconds to wait: 0 is one try; for ever, if left out. What is no number from 0
   * to 4294967295 is a `RangeError`, or a `TypeError`.
   */
  timeout?: number | null;
  /** `exclusive`, if left out. */
  mode?: Mode;
}

/** What was granted. */
export interface Grant {
  /** The fencing token: strictly increasing over the exclusive grants of one lock. */
  token?: bigint;
  /** For how many milliseconds; until it is released, if left out. */
  validFor?: number;
}

/** Why a hold is no more. */
export type LostReason = "expired" | "broken" | "disconnected" | "io";

/** The name of an error, as `locket:lock` spells it. */
export type Code =
  | "would-block" | "timeout" | "not-locked" | "not-owner" | "deadlock" | "access-denied"
  | "no-entry" | "invalid-path" | "limit-exceeded" | "not-supported" | "unavailable" | "lost"
  | "canceled" | "io" | "other";

/** Something went wrong with a lock. The message is one sentence that names the lock. */
export class LockError extends Error {
  protected constructor();
  readonly code: Code;
  /** The path of the lock, as it was opened. */
  readonly path: string;
  /** What came with the error: why the lock was `lost`, what kind of `io` failed, or a text. */
  readonly reason?: string;
}

/** The lock is held by others, and the time to wait was over: `timeout`, or `would-block` if 0. */
export class LockTimeoutError extends LockError {
  readonly code: "timeout" | "would-block";
}

/**
 * The lock of one file.
 *
 * @example
 * using lock = LockFile.acquire("/jobs/app.lock", { timeout: 30_000 });
 * // Alone on this host, until the end of this block.
 */
export class LockFile implements Disposable {
  /** Opens the lock of the file at `path`, and creates the file where it is missing. */
  constructor(path: string, options?: OpenOptions);

  /** Opens a lock and acquires it. Disposing of it releases it. */
  static acquire(path: string, options?: OpenOptions & AcquireOptions): LockFile;

  /** The path as it was opened. */
  readonly path: string;

  /** Acquires the lock: at once if it is free, otherwise waits. Nothing else runs meanwhile. */
  acquire(options?: AcquireOptions): Grant;

  /** Releases the lock. Throws where it is not held, or was `lost`. */
  release(): void;

  /** Whether anybody holds the lock: true or false now, not a moment later. */
  isLocked(): boolean;

  /** Whether this component holds the lock, be it through this object or another. */
  isHeld(): boolean;

  /** Why this component holds the lock no more, although it did not release it. */
  lost(): LostReason | undefined;

  /** Releases what was acquired through this object, which is of no use from then on. */
  [Symbol.dispose](): void;
}

/**
 * Runs `body` while the lock is held, and releases it on every way out of `body`, which must not be
 * async: the lock would be released at its first `await`.
 *
 * @param lock the lock, or the path of one
 * @returns what `body` returns
 */
export function withLock<T>(
  lock: string | LockFile,
  options: OpenOptions & AcquireOptions,
  body: (() => T) & (T extends PromiseLike<unknown> ? never : unknown),
): T;
