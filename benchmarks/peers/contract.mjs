/* What the Node peers share: see README.md. The driver puts it beside their folders. */

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const STAMP_EVERY = 20; // milliseconds

export const profileName = process.env.PROFILE ?? "default";

/** Says that this process takes jobs. */
export function ready() {
  writeFileSync(`${process.env.STAMPS}/${process.pid}.ready`, "");
}

/** Returns what a job calls; the calls so far, and when the first and last were, go to a file. */
export function stamping() {
  const path = `${process.env.STAMPS}/${process.pid}.stamp`;
  let [count, written, first, last] = [0, 0, 0, 0];
  setInterval(() => {
    if (count === written) return;
    writeFileSync(`${path}.new`, `${count} ${first.toFixed(6)} ${last.toFixed(6)}\n`);
    renameSync(`${path}.new`, path);
    written = count;
  }, STAMP_EVERY).unref();
  return () => {
    last = (performance.timeOrigin + performance.now()) / 1000;
    first ||= last;
    count += 1;
  };
}

/** Does what the command line asks for; `settings` are told with the version that is installed. */
export async function main(peer, words, commands) {
  const [command, argument] = process.argv.slice(2);
  if (command === "enqueue") {
    const began = performance.now();
    await commands.enqueue(Number(argument));
    console.log((performance.now() - began) / 1000);
    return;
  }
  if (command !== "settings") return commands[command]();
  const installed = `${dirname(process.argv[1])}/node_modules/${peer}/package.json`;
  const { version } = JSON.parse(readFileSync(installed));
  const told = `${words}; Node ${process.versions.node}`;
  console.log(JSON.stringify({ peer, version, profile: profileName, settings: told }));
}
