// A worker in JavaScript, without packages: node docs/remote_worker.mjs [url]
import { setTimeout as sleep } from "node:timers/promises";
const url = process.argv[2] ?? "http://127.0.0.1:8000";
const kinds = { shout: async ({ text }) => text.toUpperCase() }; // what we perform
const worker = `node:${process.pid}`, { RONIN_TOKEN = "" } = process.env; // an open service needs none
const headers = { "Content-Type": "application/json", Authorization: `Bearer ${RONIN_TOKEN}` };

async function post(path, body) {
  for (;; await sleep(1000)) // a word whose answer was lost may be said again
    try {
      const signal = AbortSignal.timeout(30_000);
      const answer = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body), signal });
      if (answer.status < 500) return answer;
    } catch {} // the service is away
}
async function perform({ task_id, token, kind, args, lease_seconds }) {
  const say = (word, more) => post(`/tasks/${task_id}/${word}`, { token, ...more });
  const beat = setInterval(() => say("heartbeat"), (lease_seconds * 1000) / 3);
  const [word, more] = await kinds[kind](args).then(
    (result) => ["complete", { result }],
    (error) => ["fail", { error: String(error) }]);
  clearInterval(beat);
  const { status } = await say(word, more); // 409: it is somebody else's by now
  console.log(kind, task_id, word, status);
}
for (;;) {
  const answer = await post("/tasks/claim", { worker, kinds: Object.keys(kinds), wait_seconds: 5 });
  if (!answer.ok) throw new Error(await answer.text());
  for (const task of await answer.json()) await perform(task);
  await sleep(1000 * Number(answer.headers.get("Retry-After") ?? 0));
}
