// Hosts a guest, as jco made it for Node: a directory is `/locks`, each line is a command, and
// each answer a line.
//
// node main.js DIRECTORY

import { _setPreopens } from "@bytecodealliance/preview2-shim/filesystem";
import process from "node:process";
import { createInterface } from "node:readline";

_setPreopens({ "/locks": process.argv[2] });
// Not before that.
const { run } = await import("./guest/plugged.js");

for await (const line of createInterface({ input: process.stdin })) {
  console.log(run(line));
}
// There are threads for what would block, which would go on.
process.exit();
