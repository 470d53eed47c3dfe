// The counter of the world `polyglot`, in the file `counter` of the directory.

import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";

const file = `${process.argv[2]}/counter`;

export const read = () => Number(readFileSync(file, "utf8"));
export const write = (value) => writeFileSync(file, String(value));
