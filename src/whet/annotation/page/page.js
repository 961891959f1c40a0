// The page: which view is shown, what is sent and when, and what happens where that fails.
import { inWords, make, percent, showContent, widget } from "./kinds.js";
import { showAgreement, showHelp, showSettle } from "./views.js";

const at = (id) => document.getElementById(id);
const token = document.querySelector('meta[name="token"]').content;
const IDLE_MS = 300_000;
const FLAGS = ["two labels fit", "no label fits", "the text is broken", "another language", "private data in it"];
const screen = sessionStorage.screen || (sessionStorage.screen = crypto.getRandomValues(new Uint32Array(4)).join("-"));
const now = { view: "label", state: null, row: null, widget: null, since: 0, busy: false, next: null, visited: [], settle: null, disputes: 0 };

class Trouble extends Error {
  constructor(message, status, values) { super(message); this.status = status; this.values = values; }
}

async function call(path, body) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : {
      method: "POST", headers: { "content-type": "application/json", "x-whet-token": token }, body: JSON.stringify(body),
    });
  } catch {
    throw new Trouble("The server does not answer. Is whet annotate still running?", 0, {});
  }
  let values = {};
  try { values = await response.json(); } catch { /* the status has to do */ }
  if (!response.ok) throw new Trouble(values.error ? values.error.message : "The server answered " + response.status + ".", response.status, values);
  return values;
}

function say(text) { at("said").textContent = text; }

function trouble(text, actions = []) {
  const box = make("div", text, "trouble"), bar = make("div", null, "bar");
  for (const [name, act] of actions) bar.append(make("button", name, "", { type: "button", onclick: act }));
  if (actions.length) box.append(bar);
  at("trouble").replaceChildren(...(text ? [box] : []));
  if (actions.length) bar.firstChild.focus();
}

function standing(values) {
  const { done, left, seconds_left: seconds } = values.progress;
  const minutes = seconds === null ? "" : seconds < 60 ? ", under a minute" : ", about " + (seconds < 5400 ? Math.round(seconds / 60) + " min" : Math.round(seconds / 360) / 10 + " h");
  at("bar").max = Math.max(1, done + left);
  at("bar").value = done;
  at("standing").textContent = done.toLocaleString() + " done, " + left.toLocaleString() + " left" + minutes + (values.learning ? " · " + values.learning : "");
  now.disputes = values.disputes;
  at("disputes").textContent = values.disputes ? "(" + values.disputes + ")" : "";
}

// Asks again where the network failed; whatever was typed stays on the screen meanwhile.
// Meanwhile keys for a row that nobody has seen yet do nothing; taking back waits its turn.
async function attempt(act) {
  if (now.busy) return;
  busy(true);
  try {
    trouble("");
    await act();
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    if (error.status === 401 || error.values.error?.code === "wrong_token") trouble(error.message, [["Load again", () => location.reload()]]);
    else if (error.status === 0 || error.status >= 500) trouble(error.message + " What is on the screen is not saved yet.", [["Try again", () => attempt(act)]]);
    else trouble(error.message);
  } finally {
    busy(false);
    const next = now.next;
    now.next = null;
    next?.();
  }
}

function busy(is) {
  now.busy = is;
  document.body.setAttribute("aria-busy", String(is));
}

async function advance(but = []) {
  const found = await call("api/next", { screen, but });
  standing(found);
  show(found.row);
}

function show(row) {
  now.row = row;
  now.since = performance.now();
  at("bottom").hidden = row === null;
  for (const id of ["hint", "choices", "place"]) at(id).replaceChildren();
  if (row === null) {
    const empty = make("div", null, "empty");
    empty.append(make("b", "Nothing left for you."), document.createTextNode(nothingLeft()));
    at("row").hidden = false;
    at("row").replaceChildren(empty);
    at("bottom").hidden = false;
    for (const id of ["confirm", "skip", "flag", "story"]) at(id).hidden = true;
    now.widget = null;
    return;
  }
  for (const id of ["skip", "flag", "story"]) at(id).hidden = false;
  at("place").textContent = row.place + (row.copies > 1 ? " and " + (row.copies - 1) + " more like it" : "");
  showContent(at("row"), row, now.state.job);
  hint(row);
  now.widget = widget(now.state.job, row, { row: at("row"), choices: at("choices") }, {
    save: (value) => save("answer", value),
    add: ["label", "labels", "spans"].includes(now.state.job.kind) ? askLabel : null,
  });
  at("confirm").hidden = !now.widget.confirms;
  if (now.widget.focus) now.widget.focus();
  else if (document.activeElement && document.activeElement !== document.body) document.activeElement.blur();
  window.scrollTo(0, 0);
}

function nothingLeft() {
  const settle = now.disputes ? " Some rows are waiting to be settled (Shift e)." : "";
  return (now.state.review ? "Every row has been looked at." : "Every row has its label.") + settle + " Write them out with: whet annotate export";
}

function hint(row) {
  const parts = [], job = now.state.job;
  const add = (before, value, after) => parts.push(document.createTextNode((parts.length ? "  " : "") + before), make("b", value), document.createTextNode(after));
  if (["skip", "flag"].includes(row.answer.action)) add("You have ", row.answer.action === "skip" ? "skipped" : "flagged", " this" + (row.answer.reason ? " (" + row.answer.reason + ")." : "."));
  else if (row.answer.action === "answer") add("You said ", inWords(row.answer.value, job, row.content), ".");
  if (row.given !== null && ["label", "rating"].includes(job.kind)) {
    add("The file says ", inWords(row.given, job, row.content), "");
    parts.push(document.createTextNode(" ("), make("kbd", "k"), document.createTextNode(" keeps it)."));
  }
  if (row.guess && row.answer.action === "none" && ["label", "labels", "rating", "spans"].includes(job.kind)) {
    add("Suggested: ", inWords(row.guess.value, job, row.content), " (" + [percent(row.guess.confidence), row.guess.source].filter(Boolean).join(", ") + "). ");
    if (["label", "rating"].includes(job.kind)) parts.push(make("kbd", "Enter"), document.createTextNode(" takes it."));
  }
  at("hint").replaceChildren(...parts);
}

function save(action, value = null, reason = "", revision = null) {
  if (now.view !== "label" || now.row === null) return;
  const row = now.row, seconds = Math.min(performance.now() - now.since, IDLE_MS) / 1000;
  const body = { key: row.key, action, value, reason, revision: revision ?? row.answer.revision, seconds };
  attempt(async () => {
    try {
      standing(await call("api/save", body));
    } catch (error) {
      if (error.status !== 409) throw error;
      changed(row, body, error.values.now);
      return;
    }
    if (now.visited.at(-1) !== row.key) now.visited.push(row.key);
    await advance();
    say({ answer: "Saved: " + inWords(value, now.state.job, row.content), skip: "Skipped", flag: "Flagged: " + reason }[action] + " (u takes it back)");
  });
}

// Somebody, or another window, was first: nothing is overwritten before that is said.
function changed(row, body, there) {
  const said = there.action === "answer" ? inWords(there.value, now.state.job, row.content) : there.action === "none" ? "nothing any more" : there.action;
  trouble("This row was changed in another window meanwhile. It says now: " + said + ".", [
    ["Keep that", () => attempt(advance)],
    ["Save mine instead", () => save(body.action, body.value, body.reason, there.revision)],
  ]);
}

function confirm() {
  if (!now.widget || !now.widget.confirms) return false;
  const value = now.widget.value();
  if (value === null) say(now.widget.missing);
  else save("answer", value);
  return true;
}

function undo() {
  if (now.busy) return now.next = undo;
  attempt(async () => {
    const found = await call("api/undo", { screen });
    standing(found);
    if (found.row === null) return say("There is nothing to take back.");
    view("label");
    show(found.row);
    say("Taken back.");
  });
}

function back() {
  if (now.busy) return;
  const key = now.visited.pop();
  if (key === undefined) return say("There is no row before this one.");
  attempt(async () => {
    const found = await call("api/row/" + encodeURIComponent(key));
    standing(found);
    show(found.row);
    say("The row before. Answer it anew, or press Esc to go on.");
  });
}

// A dialog with one field; `choices` can be taken by their number while it is empty.
function ask(title, label, choices, needed, done) {
  const box = at("dialog"), form = make("form"), field = make("input", null, "", { id: "dialog-field", maxlength: "200", autocomplete: "off" });
  const group = make("div", null, "choices");
  const finish = (text) => { box.close(); done(text); };
  choices.forEach((name, place) => {
    const one = make("button", name, "", { type: "button", onclick: () => finish(name) });
    one.append(make("kbd", String(place + 1)));
    group.append(one);
  });
  const bar = make("div", null, "bar under");
  bar.append(make("button", "OK", "main", { type: "submit" }), make("button", "Cancel", "", { type: "button", onclick: () => box.close() }));
  form.append(make("h2", title, "", { id: "dialog-title" }), make("label", label, "", { for: "dialog-field" }), field, group, bar);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim() || !needed) finish(field.value.trim());
  });
  field.addEventListener("keydown", (event) => {
    const place = Number(event.key) - 1;
    if (!field.value && choices[place] !== undefined) { event.preventDefault(); finish(choices[place]); }
  });
  box.replaceChildren(form);
  box.showModal();
  field.focus();
}

const askLabel = () => ask("New label", "Its name", [], true, (name) => attempt(async () => {
  now.state.job = (await call("api/label", { name })).job;
  show(now.row);
  say("Added: " + name);
}));
const askFlag = () => now.row && ask("Flag this row", "Why? Somebody will look at it.", FLAGS, true, (reason) => save("flag", null, reason));
const askSkip = () => now.row && ask("Skip this row", "Why? (may stay empty)", [], false, (reason) => save("skip", null, reason));
const askName = () => ask("Who labels here?", "Your name", [], true, (annotator) => attempt(async () => {
  await call("login", { annotator });
  location.reload();
}));

function story() {
  if (!now.row) return;
  attempt(async () => {
    const { changes } = await call("api/history/" + encodeURIComponent(now.row.key));
    const lines = changes.map((one) => {
      const after = one.after.action === "answer" ? inWords(one.after.value, now.state.job, now.row.content) : one.after.action === "none" ? "taken back" : one.after.action + (one.after.reason ? ": " + one.after.reason : "");
      const line = make("tr");
      line.append(make("td", new Date(1000 * one.when).toLocaleString()), make("td", one.who), make("td", (one.subject === "decision" ? "settled: " : "") + after));
      return line;
    });
    const table = make("table"), body = make("tbody");
    body.append(...lines);
    table.append(body);
    dialog("History of this row", lines.length ? [table] : [make("p", "Nobody has said anything of it yet.")]);
  });
}

function dialog(title, parts) {
  const box = at("dialog"), close = make("button", "Close", "main", { type: "button", onclick: () => box.close() });
  box.replaceChildren(make("h2", title, "", { id: "dialog-title" }), ...parts, close);
  box.showModal();
  close.focus();
}

function view(name) {
  now.view = name;
  for (const one of ["label", "settle", "agreement"]) {
    at(one).hidden = one !== name;
    const tab = document.querySelector(`[data-view="${one}"]`);
    if (one === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
}

function open(name) {
  attempt(async () => {
    if (name === "settle") {
      const found = await call("api/disputes");
      standing(found);
      view(name);
      now.settle = showSettle(at("settle"), found.rows, now.state.job, { call, attempt, say, standing, trouble });
    } else if (name === "agreement") {
      const found = await call("api/agreement");
      view(name);
      showAgreement(at("agreement"), found, now.state.job);
    } else {
      view(name);
      await advance();
    }
  });
}

function guide(shown) {
  at("guidelines").hidden = !shown;
  at("guide").setAttribute("aria-expanded", String(shown));
  localStorage.guidelines = shown ? "shown" : "hidden";
}

function theme(next) {
  const order = ["auto", "light", "dark"], chosen = next ? order[(order.indexOf(document.documentElement.dataset.theme) + 1) % 3] : localStorage.theme || "auto";
  document.documentElement.dataset.theme = order.includes(chosen) ? chosen : "auto";
  localStorage.theme = document.documentElement.dataset.theme;
  if (next) say("Colours: " + chosen + ".");
}

const COMMANDS = {
  u: undo, b: back, f: askFlag, s: () => save("skip"), S: askSkip, n: () => ["label", "labels", "spans"].includes(now.state.job.kind) && now.row && askLabel(),
  L: () => open("label"), E: () => open("settle"), A: () => open("agreement"),
  g: () => guide(at("guidelines").hidden), d: () => theme(true), h: story, "?": () => dialog("Keys", showHelp(now.state.job)),
};

document.addEventListener("keydown", (event) => {
  if (!now.state || at("dialog").open || event.isComposing || event.altKey) return;
  const field = event.target.closest("input, textarea, select");
  if (field) {
    if (event.key === "Escape") field.blur();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey || field.tagName === "INPUT")) {
      event.preventDefault();
      field.blur();
      if (now.view === "label") confirm();
      else now.settle?.confirm();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey) return;
  const onButton = event.target.closest("button, a") && ["Enter", " "].includes(event.key);
  if (onButton) return;
  if (now.view === "settle" && now.settle?.key(event)) return event.preventDefault();
  if (now.view === "label" && now.row && !event.repeat && !now.busy) {
    if (now.widget.key(event)) return event.preventDefault();
    if (event.key === "Enter" && confirm()) return event.preventDefault();
    if (event.key === "Escape") return attempt(advance);
  } else if (now.view === "label" && now.row && event.repeat && event.key.startsWith("Arrow") && now.widget.key(event)) return event.preventDefault();
  if (event.repeat) return;
  const act = COMMANDS[event.key];
  if (!act || (now.view !== "label" && "bfsSnh".includes(event.key))) return;
  event.preventDefault();
  act();
});

function notices(all) {
  at("notices").replaceChildren(...all.map((text) => {
    const box = make("div", null, "notice", { role: "note" });
    box.append(make("span", text), make("button", "Close", "", { type: "button", onclick: () => box.remove() }));
    return box;
  }));
}

async function begin() {
  now.state = await call("api/state");
  at("guidelines").innerHTML = now.state.guidelines;  // made safe by the server, and the policy lets nothing in it run
  at("guide").hidden = !now.state.guidelines;
  guide(Boolean(now.state.guidelines) && localStorage.guidelines !== "hidden" && (window.innerWidth > 640 || localStorage.guidelines === "shown"));
  notices(now.state.notices);
  standing(now.state);
  await advance();
}

function door() {
  at("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    at("wrong").textContent = "";
    try {
      await call("login", { annotator: at("name").value.trim(), password: at("password").value });
      location.reload();
    } catch (error) {
      at("wrong").textContent = error.message;
    }
  });
}

theme(false);
if (document.querySelector('meta[name="signed-in"]').content !== "yes") door();
else {
  const buttons = { undo, back, story, skip: () => save("skip"), flag: askFlag, confirm, theme: () => theme(true), who: askName, guide: () => guide(at("guidelines").hidden), help: COMMANDS["?"] };
  for (const [id, act] of Object.entries(buttons)) at(id).addEventListener("click", act);
  for (const tab of document.querySelectorAll("[data-view]")) tab.addEventListener("click", () => open(tab.dataset.view));
  attempt(begin);
}
