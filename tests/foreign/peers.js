// A locking library of Node, in the language of tests/tests/interop: peers.js LIBRARY.
//
// Prints its version first, and fails if it is not installed. It has no timeout; told to wait, it
// tries again every 50 ms, so many times.

"use strict";

const [library] = process.argv.slice(2);
const { lock } = require(library);
const { version } = require(`${library}/package.json`);
const say = (answer) => process.stdout.write(`${answer}\n`);

async function main() {
  say(version);
  let release;
  for await (const line of require("readline").createInterface({ input: process.stdin })) {
    const [command, ...words] = line.split(" ");
    const tries = command === "wait" ? Number(words[0]) * 20 : 0;
    const retries = { retries: tries, factor: 1, minTimeout: 50, maxTimeout: 50 };
    try {
      if (command === "release") {
        await release();
        say("released");
      } else {
        // Nothing need be at the path itself.
        release = await lock(words.at(-1), { retries, realpath: false });
        say("got");
      }
    } catch (error) {
      const refused = command === "wait" ? "timed-out" : "busy";
      say(error.code === "ELOCKED" ? refused : `error ${error.message}`);
    }
  }
}

main();
