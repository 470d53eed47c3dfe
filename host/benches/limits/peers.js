// A locking library of Node, in the language of process.rs: peers.js LIBRARY PATH.
//
// Prints its name and version first, and fails if it is not installed. It does not wait by
// default; told to, it would wait a second and ever longer. Here it tries again every 50 ms.

"use strict";

const [library, path] = process.argv.slice(2);
const { lock } = require(library);
const { version } = require(`${library}/package.json`);
const retries = { retries: 12000, factor: 1, minTimeout: 50, maxTimeout: 50 };
const say = (answer) => process.stdout.write(`${answer}\n`);

async function main() {
  say(`${library} ${version}`);
  let release;
  for await (const line of require("readline").createInterface({ input: process.stdin })) {
    const [command, count] = line.split(" ");
    if (command === "acquire") {
      say("asking");
      release = await lock(path, { retries });
      say(process.hrtime.bigint());
    } else if (command === "release") {
      const released = process.hrtime.bigint();
      await release();
      say(released);
    } else if (command === "batch") {
      const start = process.hrtime.bigint();
      for (let i = 0; i < Number(count); i++) {
        await (await lock(path, { retries }))();
      }
      say(process.hrtime.bigint() - start);
    }
  }
}

main();
