// Of all instances that start at the same time, one does the work.

import { LockTimeoutError, withLock } from "locket-guest";
import { getStdout } from "wasi:cli/stdout@0.2.0";

export const run = {
  run() {
    try {
      withLock("/jobs/app.lock", { timeout: 0 }, work);
    } catch (error) {
      if (!(error instanceof LockTimeoutError)) throw error;
      print("another instance is still working\n");
    }
  },
};

function work() {
  const start = Date.now();
  while (Date.now() < start + 500);
  print("done\n");
}

function print(text) {
  getStdout().blockingWriteAndFlush(Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
}
