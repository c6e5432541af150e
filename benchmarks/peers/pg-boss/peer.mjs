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

import { readFileSync, renameSync, writeFileSync } from "node:fs";

import { PgBoss } from "pg-boss";

const QUEUE = "noop";
const STAMP_EVERY = 20; // milliseconds

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

const profileName = process.env.PROFILE ?? "default";
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
  const boss = new PgBoss({ connectionString: databaseUrl(), ...profile.instance });
  boss.on("error", console.error);
  return await boss.start();
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
  const installed = new URL("node_modules/pg-boss/package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(installed));
  const words = `${profile.words}; Node ${process.versions.node}`;
  const line = { peer: "pg-boss", version, profile: profileName, settings: words };
  console.log(JSON.stringify(line));
}

const [command, argument] = process.argv.slice(2);
await { prepare, enqueue, work, settings }[command](Number(argument));
