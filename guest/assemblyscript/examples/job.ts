// A component that works while it holds a lock. Its host calls `run`, and gets the result as text.

import { LockFile } from "../locket";
export { cabi_realloc } from "../locket";

let result = "";
const RESULT = memory.data(8);

/** Exported as `run: func() -> string`: returns the address of the address and length of the text. */
export function run(): usize {
  result = job();
  store<usize>(RESULT, changetype<usize>(result));
  store<i32>(RESULT, result.length, 4);
  return RESULT;
}

function job(): string {
  const lock = new LockFile("/jobs/nightly.lock");
  let failure = lock.failure;
  if (failure == null) failure = lock.holding(500, work);
  lock.close();
  if (failure == null) return "done";
  return failure == "timeout" ? "another instance is still working" : failure;
}

function work(): string | null {
  // The lock is held until this function returns.
  return null;
}
