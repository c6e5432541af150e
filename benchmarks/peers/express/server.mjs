/*
 * The balance service with Express and pg, as their documentation has it, for benchmarks/burst.py.
 *
 *     npm install --no-save --no-package-lock --no-audit --no-fund
 *     BALANCE=20000 node_modules/.bin/node server.mjs prepare
 *     node_modules/.bin/node server.mjs
 *
 * From the environment come DATABASE_URL, PORT and PROCESSES. It prints `ready` when all processes
 * listen, and ends on TERM.
 */

import cluster from "node:cluster";

import express from "express";
import pg from "pg";

const HOST = "127.0.0.1";
const PORT = Number(process.env.PORT ?? 8000);
const PROCESSES = Number(process.env.PROCESSES ?? 5);
const BACKLOG = 16384; // so that 10,000 connections at one moment find a place, if the kernel lets
const TABLE = `
  CREATE TABLE IF NOT EXISTS users (
    id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0))`;
const FILL = `
  INSERT INTO users VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET balance = EXCLUDED.balance`;
const SPEND = `
  UPDATE users SET balance = balance + $1 WHERE id = $2 AND balance + $1 >= 0 RETURNING balance`;

// "Set NODE_ENV to production": https://expressjs.com/en/advanced/best-practice-performance.html
process.env.NODE_ENV ??= "production";

/** Gives user 1 the balance of $BALANCE, whatever it was. */
async function prepare() {
  const client = new pg.Client(process.env.DATABASE_URL);
  await client.connect();
  await client.query(TABLE);
  await client.query(FILL, [process.env.BALANCE]);
  await client.end();
}

/** Starts the processes and, until TERM, another one for each that ends. */
function lead() {
  let stopping = false;
  let listening = 0;
  cluster.on("listening", () => {
    listening += 1;
    if (listening === PROCESSES) console.log("ready");
  });
  cluster.on("exit", () => stopping || cluster.fork());
  process.on("SIGTERM", () => {
    stopping = true;
    for (const each of Object.values(cluster.workers)) each.process.kill("SIGTERM");
  });
  for (let each = 0; each < PROCESSES; each += 1) cluster.fork();
}

function serve() {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  pool.on("error", (error) => console.error(error)); // of a connection at rest: the pool drops it
  const server = application(pool).listen({ host: HOST, port: PORT, backlog: BACKLOG });
  process.on("SIGTERM", () => {
    if (server.listening) server.close(() => pool.end().then(() => process.exit()));
  });
}

function application(pool) {
  const app = express();
  app.use(express.json());

  app.get("/users/:id", async (request, response) => {
    const id = userId(request);
    const balance = id === null ? null : await balanceOf(pool, id);
    if (balance === null) return problem(response, 404, "unknown-user");
    response.json({ userId: id, balance });
  });

  app.post("/users/:id/balance", async (request, response) => {
    const id = userId(request);
    const amount = request.body?.amount;
    if (id === null) return problem(response, 404, "unknown-user");
    if (!Number.isSafeInteger(amount)) return problem(response, 422, "invalid-amount");
    const { rows } = await pool.query(SPEND, [amount, id]);
    if (rows.length) return response.json({ userId: id, balance: Number(rows[0].balance) });
    const balance = await balanceOf(pool, id);
    if (balance === null) return problem(response, 404, "unknown-user");
    problem(response, 409, "insufficient-funds", { userId: id, balance });
  });

  return app;
}

function userId(request) {
  const id = Number(request.params.id);
  return Number.isSafeInteger(id) ? id : null;
}

async function balanceOf(pool, id) {
  const { rows } = await pool.query("SELECT balance FROM users WHERE id = $1", [id]);
  return rows.length ? Number(rows[0].balance) : null; // a bigint comes as text
}

function problem(response, status, type, more = {}) {
  response.status(status).type("application/problem+json").json({ type, status, ...more });
}

if (process.argv[2] === "prepare") await prepare();
else if (cluster.isPrimary) lead();
else serve();
