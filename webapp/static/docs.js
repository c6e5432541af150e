"use strict";
// Sends what a form of the documentation says, and shows the answer beside it. Ids and tokens of an
// answer go into the other forms, so that one can make a task and then look at it.
(() => {
  const known = { task_id: "", run_id: "", token: "" };
  const token = document.getElementById("token");
  document.getElementById("token-field").hidden = false;

  function request(form) {
    let path = form.dataset.path;
    const query = new URLSearchParams();
    const headers = new Headers();
    let body;
    for (const field of form.elements) {
      const { value, name } = field;
      if (field.dataset.place === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
      else if (field.dataset.place === "body") body = value;
      else if (value && field.dataset.place === "query") query.set(name, value);
      else if (value && field.dataset.place === "header") headers.set(name, value);
    }
    if (body !== undefined) headers.set("Content-Type", "application/json");
    if (token.value) headers.set("Authorization", `Bearer ${token.value}`);
    const asked = query.size ? `${path}?${query}` : path;
    return [asked, { method: form.dataset.method, headers, body }];
  }

  function block(name, text) {
    const element = document.createElement(name);
    element.textContent = text;
    return element;
  }

  function pretty(text) {
    try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
  }

  function learn(text) {
    let found;
    try { found = JSON.parse(text); } catch { return; }
    if (Array.isArray(found)) [found] = found;
    for (const name of Object.keys(known)) {
      const value = found && found[name];
      if (typeof value !== "string") continue;
      for (const field of document.querySelectorAll(".try input[required]")) {
        if (field.name === name || (name === "task_id" && field.name === "run_id")) field.value = value;
      }
      if (name === "token") {
        for (const field of document.querySelectorAll(".try textarea, .try option")) {
          field.value = field.value.replace(/("token": ")[^"]*"/, `$1${value}"`);
        }
      }
    }
  }

  async function send(form) {
    const [path, options] = request(form);
    const answer = form.querySelector(".answer");
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const response = await fetch(path, options);
      const text = await response.text();
      const headers = ["Location", "Link", "Retry-After"].filter((name) => response.headers.has(name));
      answer.replaceChildren(
        block("h4", `${response.status} ${response.statusText}`),
        ...headers.map((name) => block("p", `${name}: ${response.headers.get(name)}`)),
        Object.assign(block("pre", pretty(text)), { tabIndex: 0 }), // it may scroll
      );
      if (response.ok) learn(text);
    } catch (error) {
      answer.replaceChildren(block("p", `No answer: ${error.message}`));
    } finally {
      button.disabled = false;
    }
  }

  for (const form of document.querySelectorAll(".try")) {
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
  }
  for (const choice of document.querySelectorAll("select[data-fills]")) {
    choice.addEventListener("change", () => {
      document.getElementById(choice.dataset.fills).value = choice.value;
    });
  }

  function open() { // a link may lead into something that is closed
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  }
  addEventListener("hashchange", open);
  open();
})();
