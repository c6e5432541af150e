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

import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";

import { main, profileName, ready, stamping } from "../contract.mjs";

const TASK = "noop";

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

const profile = PROFILES[profileName];

async function prepare() {
  await runMigrations({ connectionString: process.env.DATABASE_URL });
}

async function enqueue(count) {
  const utils = await makeWorkerUtils({ connectionString: process.env.DATABASE_URL });
  await utils.addJobs(Array.from({ length: count }, () => ({ identifier: TASK, payload: {} })));
  await utils.release();
}

async function work() {
  const stamp = stamping();
  const events = new EventEmitter();
  const listens = once(events, "pool:listen:success");
  const runner = await run({
    connectionString: process.env.DATABASE_URL,
    taskList: { [TASK]: async () => stamp() },
    events,
    ...profile.options,
  });
  await listens;
  ready();
  await runner.promise; // until TERM, which the library handles itself
}

await main("graphile-worker", profile.words, { prepare, enqueue, work });
