// Of all instances that start at the same time, one does the work.

import { LockFile, LockTimeoutError } from "locket-guest";
import { getStdout } from "wasi:cli/stdout@0.2.0";

export const run = {
  run(): void {
    try {
      using _lock = LockFile.acquire("/jobs/app.lock", { timeout: 0 });
      work();
    } catch (error) {
      if (!(error instanceof LockTimeoutError)) throw error;
      print("another instance is still working\n");
    }
  },
};

function work(): void {
  const start = Date.now();
  while (Date.now() < start + 500);
  print("done\n");
}

function print(text: string): void {
  getStdout().blockingWriteAndFlush(Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
}
