// A command component that works while it holds a lock.

import { LockFile } from "./locket";
export { cabi_realloc } from "./locket";

const lock = new LockFile("/jobs/nightly.lock");
let failure: string | null = lock.failure;
if (failure == null) failure = lock.holding(500, work);
lock.close();
if (failure == "timeout") {
  console.log("another instance is still working");
} else if (failure != null) {
  console.error(failure!);
  process.exit(1);
}

function work(): string | null {
  // The lock is held until this function returns.
  console.log("working alone");
  return null;
}
