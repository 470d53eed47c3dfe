// Of all instances and processes that start at the same time, one does the work.

import { LockFile, LockTimeoutError } from "locket";

export const run = {
  run(): void {
    try {
      using _lock = LockFile.acquire("/jobs/app.lock", { timeout: 0 });
      work();
    } catch (error) {
      if (!(error instanceof LockTimeoutError)) throw error;
      console.log("somebody else is at it");
    }
  },
};

function work(): void {
  const start = Date.now();
  while (Date.now() < start + 500);
  console.log("done");
}
