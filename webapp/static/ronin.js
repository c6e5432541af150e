"use strict";
// Keeps a page fresh that says <main data-live>: asks for it again and again with the ETag of what
// it shows, and changes what differs, in place. Between two answers it moves what the time alone
// moves, by the server's clock. Nothing here decides anything; without it the page is as it came.
(() => {
  const main = document.querySelector("main[data-live]");
  if (!main) return;

  const EVERY = 1000; // milliseconds between two polls, unless the server says otherwise
  const LONGEST = 15000; // between two tries while the server does not answer
  const PATIENCE = 10000; // for one answer
  const JUMP = 2000; // more than that is no jitter: the server's clock, or ours, was set
  const TRANSITORY = 500; // from this status on it is the server's trouble
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const mark = document.getElementById("live-mark");
  const pause = document.getElementById("live-pause");
  const state = { etag: `"${main.dataset.etag}"`, paused: false, failures: 0, timer: 0, busy: false };

  // The server's clock: an answer took some time to come, so the newest word is never too late.
  let ahead = Number(main.dataset.now) - performance.now();
  const now = () => performance.now() + ahead;
  function hear(text) {
    const heard = Number(text) - performance.now();
    if (!text || Number.isNaN(heard)) return;
    ahead = heard > ahead || ahead - heard > JUMP ? heard : ahead + (heard - ahead) * 0.05;
  }

  // -- What the time moves ---------------------------------------------------------------------
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  function duration(seconds) { // as webapp/pages says it
    if (seconds < 10) return `${Math.floor(Math.max(seconds, 0) * 10) / 10} s`;
    const left = Math.floor(seconds);
    const place = UNITS.findIndex(([, size]) => left >= size);
    const [unit, size] = UNITS[place];
    const [smaller, part] = UNITS[Math.min(place + 1, UNITS.length - 1)];
    const rest = Math.floor((left % size) / part);
    return `${Math.floor(left / size)} ${unit}${rest ? ` ${rest} ${smaller}` : ""}`;
  }
  const whole = (seconds) => duration(seconds < 10 ? Math.floor(seconds) : seconds);
  const CLOCKS = {
    since: (at) => whole((now() - at) / 1000),
    ago: (at) => `${whole((now() - at) / 1000)} ago`,
    until: (at) => (at > now() ? `in ${whole((at - now()) / 1000)}` : "now"),
  };
  function put(element, text) { // into the text that is there: a selection around it stays
    const node = element.firstChild;
    if (!node) element.textContent = text;
    else if (node.data !== text) node.data = text;
  }
  function tick() {
    for (const each of main.querySelectorAll("time[data-clock]")) {
      put(each, CLOCKS[each.dataset.clock](Date.parse(each.dateTime)));
    }
    for (const picture of main.querySelectorAll("[data-base]")) slide(picture);
  }

  // -- The lanes: a window that goes with the time, and bars that grow ---------------------------
  const SPANS = [[60, 600], [15, 300], [5, 60]]; // minutes shown, seconds between two marks
  let chosen = kept("span"); // minutes, once the reader has said so
  function slide(picture) {
    const base = Number(picture.dataset.base);
    const [minutes, step] = SPANS.find(([each]) => String(each) === chosen) ||
      SPANS.find(([each]) => each * 60 === Number(picture.dataset.span)) || SPANS[0];
    const rest = calm.matches ? step / 10 : 1; // seconds; for who wants no motion, now and then
    const edge = Math.ceil(now() / 1000 / rest) * rest - base;
    const span = minutes * 60;
    for (const lane of picture.querySelectorAll(".lane svg[viewBox]")) {
      lane.setAttribute("viewBox", `${edge - span} 0 ${span} ${lane.getAttribute("height")}`);
    }
    for (const bar of picture.querySelectorAll("rect.running")) {
      bar.setAttribute("width", Math.max(now() / 1000 - base - Number(bar.getAttribute("x")), 0));
    }
    axis(picture.querySelector(".axis"), base + edge, span, step);
    choices(picture.querySelector(".choice"), minutes);
  }
  function axis(svg, right, span, step) {
    if (!svg) return;
    svg.dataset.own = "";
    const marks = [];
    for (let at = Math.ceil((right - span) / step) * step; at < right; at += step) {
      const place = 100 - ((right - at) / span) * 100;
      if (place < 3 || place > 97) continue;
      const text = document.createElementNS(svg.namespaceURI, "text");
      text.setAttribute("x", `${place}%`);
      text.setAttribute("y", "12");
      text.textContent = new Date(at * 1000).toISOString().slice(11, 16);
      marks.push(text);
    }
    svg.replaceChildren(...marks);
  }
  function choices(group, minutes) {
    if (!group) return;
    if (!("own" in group.dataset)) offer(group);
    for (const each of group.children) {
      each.setAttribute("aria-pressed", String(each.value === String(minutes)));
    }
  }
  function offer(group) {
    group.dataset.own = "";
    group.hidden = false;
    for (const [minutes] of SPANS) {
      const button = document.createElement("button");
      button.type = "button";
      button.value = String(minutes);
      button.textContent = `${minutes} min`;
      button.addEventListener("click", () => {
        chosen = button.value;
        keep("span", chosen);
        tick();
      });
      group.append(button);
    }
  }
  function kept(name) { // in this tab; some browsers forbid it
    try { return sessionStorage.getItem(name); } catch { return null; }
  }
  function keep(name, value) {
    try { sessionStorage.setItem(name, String(value)); } catch { /* then not */ }
  }

  // -- What an answer changes ------------------------------------------------------------------
  function key(node) { // what a thing is known by, wherever it moves: a bar by where it leads
    if (node.nodeType !== Node.ELEMENT_NODE) return "";
    return node.id || node.dataset.key || (node instanceof SVGAElement && node.getAttribute("href"));
  }
  function morph(old, fresh) {
    if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.dataset && "own" in old.dataset) return undefined; // the script's own by now
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
    } else if (!old.isEqualNode(fresh)) {
      attributes(old, fresh);
      children(old, fresh);
    }
    return undefined;
  }
  function attributes(old, fresh) {
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      // What the reader has opened stays open.
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
  }
  function children(old, fresh) {
    const wanted = [...fresh.childNodes];
    const keys = new Set(wanted.map(key));
    const keyed = new Map();
    for (const child of [...old.childNodes]) {
      const name = key(child);
      if (name && keys.has(name) && !keyed.has(name)) keyed.set(name, child);
      else if (name) child.remove(); // first, so that those that stay need not move
    }
    let at = old.firstChild;
    for (const want of wanted) {
      const name = key(want);
      const have = name ? keyed.get(name) : at && !key(at) && at.nodeName === want.nodeName && at;
      keyed.delete(name);
      while (have && at !== have && at && at.nodeType === Node.TEXT_NODE) at = dropped(at);
      if (have === at && at) at = at.nextSibling;
      else old.insertBefore(have || want, at);
      if (have) morph(have, want);
    }
    while (at) at = dropped(at);
  }
  function dropped(node) {
    const next = node.nextSibling;
    node.remove();
    return next;
  }
  function update(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.querySelector("main");
    const focused = document.activeElement;
    if (fresh) children(main, fresh);
    else for (const part of [...page.body.children]) morph(document.getElementById(part.id), part);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    if (page.title) document.title = page.title;
    tick();
  }

  // -- Asking ----------------------------------------------------------------------------------
  const NAMES = { live: "live", paused: "paused", lost: "connection lost" };
  function say(name) {
    mark.hidden = false;
    mark.dataset.state = name;
    if (mark.textContent !== NAMES[name]) mark.textContent = NAMES[name];
  }
  async function ask() {
    const response = await fetch(main.dataset.live || location.href, {
      headers: { "If-None-Match": state.etag },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (response.status !== 304 && !response.ok && response.status < TRANSITORY) location.reload();
    if (response.status !== 304 && !response.ok) throw new Error(String(response.status));
    const etag = response.headers.get("ETag") || "";
    if (response.redirected || !etag.includes(`"${main.dataset.build}.`)) location.reload();
    hear(response.headers.get("Ronin-Now"));
    if (response.ok) {
      update(await response.text());
      state.etag = etag;
    }
    return Number(response.headers.get("Ronin-Poll-Milliseconds")) || EVERY;
  }
  async function poll() {
    clearTimeout(state.timer);
    if (state.busy || state.paused || document.hidden) return;
    state.busy = true;
    let wait;
    try {
      wait = await ask();
      state.failures = 0;
      if (!state.paused) say("live");
    } catch {
      state.failures += 1;
      wait = Math.min(EVERY * 2 ** (state.failures - 1), LONGEST) * (0.5 + Math.random() / 2);
      if (!state.paused) say("lost");
    }
    state.busy = false;
    clearTimeout(state.timer);
    if (!state.paused) state.timer = setTimeout(poll, wait);
  }
  pause.hidden = false;
  pause.addEventListener("click", () => {
    state.paused = !state.paused;
    pause.textContent = state.paused ? "Resume" : "Pause";
    if (state.paused) say("paused");
    else poll();
  });
  document.addEventListener("visibilitychange", poll);
  addEventListener("online", poll);
  setInterval(() => state.paused || document.hidden || tick(), EVERY);
  say("live");
  tick();
  state.timer = setTimeout(poll, EVERY / 2);
})();
