/*
 * Graphile Worker in the drain benchmark.
 *
 *     npm install --no-save --no-package-lock --no-audit --no-fund
 *     node_modules/.bin/node peer.mjs prepare | enqueue N | work | settings
 *
 * It needs Node 22.18 or later (https://worker.graphile.org/docs/requirements), so package.json
 * brings one. From the environment come DATABASE_URL, PROFILE (`default` or `best`) and STAMPS, the
 * folder where a worker says that it is ready and how many jobs it has run.
 */

import { EventEmitter, once } from "node:events";
import { readFileSync, renameSync, writeFileSync } from "node:fs";

import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";

const TASK = "noop";
const STAMP_EVERY = 20; // milliseconds

const PROFILES = {
  default: {
    // The quickstart of https://worker.graphile.org/docs/library, to the letter.
    options: { concurrency: 5, noHandleSignals: false, pollInterval: 1000 },
    words: "the library quickstart: concurrency 5, pollInterval 1000 ms, no batching",
  },
  best: {
    // https://worker.graphile.org/docs/performance: the configuration of its "Quick stats", the
    // fastest it knows, and of its own perfTest. https://worker.graphile.org/docs/scaling says to
    // enable batching for the highest performance.
    options: {
      preset: {
        worker: {
          concurrentJobs: 24,
          maxPoolSize: 25,
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
          // Its perfTest switches off the line it else prints for each job that is done.
          logger: new Logger(() => (level, message) => {
            if (level === "error" || level === "warning") console.error(message);
          }),
        },
      },
    },
    words:
      "concurrentJobs 24, maxPoolSize 25, localQueue.size 500, completeJobBatchDelay 0 ms," +
      " failJobBatchDelay 0 ms; no log line per job",
  },
};

const profileName = process.env.PROFILE ?? "default";
const profile = PROFILES[profileName];

async function prepare() {
  await runMigrations({ connectionString: databaseUrl() });
}

async function enqueue(count) {
  const utils = await makeWorkerUtils({ connectionString: databaseUrl() });
  await utils.addJobs(Array.from({ length: count }, () => ({ identifier: TASK, payload: {} })));
  await utils.release();
}

async function work() {
  const stamp = stamping();
  const events = new EventEmitter();
  const listens = once(events, "pool:listen:success");
  const runner = await run({
    connectionString: databaseUrl(),
    taskList: { [TASK]: async () => stamp() },
    events,
    ...profile.options,
  });
  await listens;
  ready();
  await runner.promise; // until TERM, which the library handles itself
}

/* What the benchmark wants of every peer. */

function ready() {
  writeFileSync(`${process.env.STAMPS}/${process.pid}.ready`, "");
}

/** Returns what a job calls; the calls so far, and when the first and last were, go to a file. */
function stamping() {
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

/** Returns DATABASE_URL as a URL: libpq's other form, `dbname=name host=/dir`, is none yet. */
function databaseUrl() {
  const text = process.env.DATABASE_URL;
  if (text.includes("://")) return text;
  const pairs = [...text.matchAll(/(\w+)=('[^']*'|\S+)/g)];
  const parts = Object.fromEntries(pairs.map(([, key, value]) => [key, value.replaceAll("'", "")]));
  const { dbname, ...others } = parts;
  return `postgresql:///${dbname}?${new URLSearchParams(others)}`;
}

function settings() {
  const installed = new URL("node_modules/graphile-worker/package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(installed));
  const words = `${profile.words}; Node ${process.versions.node}`;
  const line = { peer: "graphile-worker", version, profile: profileName, settings: words };
  console.log(JSON.stringify(line));
}

const [command, argument] = process.argv.slice(2);
await { prepare, enqueue, work, settings }[command](Number(argument));
