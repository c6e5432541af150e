/*
 * pg-boss in the drain benchmark.
 *
 *     npm install --no-save --no-package-lock --no-audit --no-fund
 *     node_modules/.bin/node peer.mjs prepare | enqueue N | work | settings
 *
 * It needs Node 22.12 or later (its README), so package.json brings one. From the environment come
 * DATABASE_URL, PROFILE (`default` or `best`) and STAMPS, the folder where a worker says that it is
 * ready and how many jobs it has run.
 *
 * By default a worker takes "1 job every 2 seconds" (https://pgboss.io/api/workers), however many
 * wait: five of them need more than an hour for 10,000.
 */

import { PgBoss } from "pg-boss";

import { main, profileName, ready, stamping } from "../contract.mjs";

const QUEUE = "noop";

const PROFILES = {
  default: {
    // The README.
    instance: {},
    queue: {},
    work: {},
    words: "the README: work() without options: a job every 2 s (batchSize 1, no notify)",
  },
  best: {
    // https://pgboss.io/api/workers: `notify` wakes a worker the moment jobs come, full batches are
    // followed by the next with no delay, `localConcurrency` is how many workers a process has.
    // The intervals, which count after a batch that was not full, are the least allowed.
    // It names no best batch; 500 is what Graphile Worker's documentation takes at a time.
    instance: { useListenNotify: true },
    queue: { notify: true },
    work: {
      batchSize: 500,
      burstWhenBatchFull: true,
      localConcurrency: 2,
      pollingIntervalSeconds: 0.5,
      notifyPollingIntervalSeconds: 0.5,
    },
    words:
      "LISTEN/NOTIFY, batchSize 500, burstWhenBatchFull, localConcurrency 2," +
      " pollingIntervalSeconds and notifyPollingIntervalSeconds 0.5",
  },
};

const profile = PROFILES[profileName];

async function prepare() {
  const boss = await started();
  await boss.createQueue(QUEUE, profile.queue);
  await boss.stop();
}

async function enqueue(count) {
  const boss = await started();
  await boss.insert(QUEUE, Array.from({ length: count }, () => ({ data: {} })));
  await boss.stop();
}

async function work() {
  const stamp = stamping();
  const boss = await started();
  await boss.work(QUEUE, profile.work, async (jobs) => jobs.forEach(stamp));
  process.once("SIGTERM", () => boss.stop());
  ready();
}

async function started() {
  const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, ...profile.instance });
  boss.on("error", console.error);
  return await boss.start();
}

await main("pg-boss", profile.words, { prepare, enqueue, work });
