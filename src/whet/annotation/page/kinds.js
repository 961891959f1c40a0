// How each kind of answer is shown and given. A widget has `key(event)`, which says whether it took the key, and `value()`.
// Every text becomes a text node, never markup.

export const LETTERS = [..."1234567890qwrtyiopzxcvm"];
const COLOURS = 8;

export function make(tag, text, kind, more = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  if (kind) element.className = kind;
  for (const [name, value] of Object.entries(more)) {
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  return element;
}

function button(text, key, act, more = {}) {
  const element = make("button", text, more.kind, { type: "button", onclick: act });
  if (more.pressed !== undefined) element.setAttribute("aria-pressed", String(more.pressed));
  if (more.share !== undefined) element.append(make("span", more.share, "share"));
  if (key) {
    element.append(make("kbd", key));
    element.setAttribute("aria-keyshortcuts", key);
  }
  return element;
}

export function percent(share) { return share === null || share === undefined ? "" : Math.round(100 * share) + " %"; }

// An answer in words.
export function inWords(value, job, content) {
  if (value === null || value === undefined) return "";
  if (job.kind === "labels") return value.length ? value.join(", ") : "none of them";
  if (job.kind === "spans") {
    const words = String(content.text || "").split(/\s+/).filter(Boolean);
    return value.length ? value.map((one) => one.kind + ": " + words.slice(one.first, one.end).join(" ")).join("; ") : "no span";
  }
  if (job.kind === "preference") {
    const place = (content.answers || []).findIndex((one) => one.side === value.better);
    const better = value.better === "tie" ? "neither is better" : (place === 0 ? "A" : "B") + " is better";
    return [better, ...value.reasons, value.note].filter(Boolean).join(", ");
  }
  return String(value);
}

// What is shown of a row, apart from what is answered on.
export function showContent(host, row, job) {
  const content = row.content, parts = [];
  for (const turn of content.turns || []) {
    const shown = make("div", null, "turn " + (turn.role === "assistant" ? "assistant" : "user"));
    shown.append(make("b", turn.role), document.createTextNode(turn.content));
    parts.push(shown);
  }
  if (content.text !== undefined && job.kind !== "spans") parts.push(make("p", content.text, "text"));
  if (content.text_pair) parts.push(make("p", content.text_pair, "text"));
  host.replaceChildren(...parts);
  host.hidden = job.kind !== "spans" && parts.length === 0;
}

export function widget(job, row, hosts, hooks) {
  const said = row.answer.action === "answer" ? row.answer.value : null;
  return { label, labels, spans, text, preference, rating }[job.kind](job, row, said, hosts, hooks);
}

function label(job, row, said, hosts, hooks) {
  const current = said ?? null, few = job.labels.length <= LETTERS.length;
  const group = make("div", null, "choices", { role: "group", "aria-label": "Labels" });
  const likely = few ? job.labels : row.likely.slice(0, 9);
  likely.forEach((name, place) => {
    const share = row.guess && row.guess.value === name ? percent(row.guess.confidence) : undefined;
    group.append(button(name, LETTERS[place], () => hooks.save(name), { pressed: name === current, share, kind: share ? "likely" : "" }));
  });
  hosts.choices.replaceChildren(group);
  const finder = few ? null : find(job.labels, hosts.choices, (name) => hooks.save(name), current);
  if (hooks.add) group.append(button("New label", "n", hooks.add));
  return {
    value: () => current,
    key(event) {
      const place = LETTERS.indexOf(event.key);
      if (place >= 0 && place < likely.length) return hooks.save(likely[place]), true;
      if (event.key === "/" && finder) return finder.focus(), true;
      if (event.key === "Enter") return accept(row, current, hooks);
      return keep(event, row, hooks);
    },
  };
}

function accept(row, current, hooks) {
  const value = current ?? (row.guess ? row.guess.value : null) ?? row.given;
  if (value === null) return false;
  hooks.save(value);
  return true;
}

function keep(event, row, hooks) {
  if (event.key !== "k" || row.given === null) return false;
  hooks.save(row.given);
  return true;
}

// A field that narrows a long list of labels down; arrows choose, Enter takes.
function find(labels, host, take, current) {
  const line = make("div", null, "find"), list = make("div", null, "choices all", { role: "listbox", "aria-label": "All labels", id: "all-labels" });
  const field = make("input", null, "", {
    type: "search", placeholder: "Find a label  ( / )", role: "combobox", "aria-expanded": "true", "aria-controls": "all-labels",
    "aria-label": "Find a label", autocomplete: "off", spellcheck: "false",
  });
  let shown = [], at = 0;
  const fits = (name, words) => words.every((word) => name.toLowerCase().replaceAll("_", " ").includes(word));
  function draw() {
    const words = field.value.toLowerCase().replaceAll("_", " ").split(/\s+/).filter(Boolean);
    const begins = (name) => (words.length && name.toLowerCase().startsWith(words[0]) ? 0 : 1);
    shown = labels.filter((name) => fits(name, words)).sort((one, two) => begins(one) - begins(two));
    at = 0;
    list.replaceChildren(...shown.map((name) => {
      const option = button(name, "", () => take(name), {});
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", String(name === current));
      option.tabIndex = -1;
      return option;
    }));
    mark();
  }
  function mark() {
    [...list.children].forEach((option, place) => option.classList.toggle("here", document.activeElement === field && place === at));
    if (document.activeElement === field && list.children[at]) list.children[at].scrollIntoView({ block: "nearest" });
  }
  field.addEventListener("input", draw);
  field.addEventListener("focus", mark);
  field.addEventListener("blur", mark);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: field.value ? 0 : 1, ArrowUp: -1 }[event.key];
    if (step) {
      at = Math.max(0, Math.min(shown.length - 1, at + step));
      mark();
      event.preventDefault();
    } else if (event.key === "Enter") {
      event.preventDefault();
      event.stopPropagation();
      if (shown[at] !== undefined) { field.blur(); take(shown[at]); }
    } else if (event.key === "Escape") {
      field.value = "";
      draw();
      field.blur();
    }
  });
  line.append(field);
  host.append(line, list);
  draw();
  return field;
}

function labels(job, row, said, hosts, hooks) {
  const chosen = new Set(said ?? row.given ?? (row.guess ? row.guess.value : null) ?? []);
  const group = make("div", null, "choices", { role: "group", "aria-label": "Labels, any number" });
  const few = job.labels.length <= LETTERS.length;
  const direct = few ? job.labels : [...new Set([...chosen, ...row.likely])].slice(0, 12);
  function toggle(name) {
    if (!chosen.delete(name)) chosen.add(name);
    draw();
  }
  function draw() {
    const shown = few ? direct : [...new Set([...direct, ...chosen])];
    group.replaceChildren(...shown.map((name, place) => button(name, LETTERS[place], () => toggle(name), { pressed: chosen.has(name) })));
    if (hooks.add) group.append(button("New label", "n", hooks.add));
  }
  draw();
  hosts.choices.replaceChildren(group);
  const finder = few ? null : find(job.labels, hosts.choices, toggle, null);
  return {
    confirms: true,
    value: () => job.labels.filter((name) => chosen.has(name)),
    key(event) {
      const shown = few ? direct : [...new Set([...direct, ...chosen])], place = LETTERS.indexOf(event.key);
      if (place >= 0 && place < shown.length) return toggle(shown[place]), true;
      if (event.key === "/" && finder) return finder.focus(), true;
      return false;
    },
  };
}

function spans(job, row, said, hosts, hooks) {
  const words = String(row.content.text).split(/\s+/).filter(Boolean);
  let found = [...(said ?? row.given ?? (row.guess ? row.guess.value : null) ?? [])].map((one) => ({ ...one }));
  let at = 0, begin = 0, extending = false;
  const text = make("p", null, "text words", { tabindex: "0", role: "application", "aria-label": "Words; arrows move, Shift and arrows choose several" });
  const now = make("p", "", "quiet", { role: "status" });
  const group = make("div", null, "choices", { role: "group", "aria-label": "Labels of a span" });
  const range = () => [Math.min(at, begin), Math.max(at, begin) + 1];
  const over = (first, end) => found.filter((one) => one.first < end && first < one.end);
  function draw() {
    const [first, end] = range(), pieces = [];
    words.forEach((word, place) => {
      const span = found.find((one) => one.first <= place && place < one.end);
      const shown = make("span", word, "word");
      if (span) shown.classList.add("k" + (Math.max(0, job.labels.indexOf(span.kind)) % COLOURS));
      shown.classList.toggle("at", place === at);
      shown.classList.toggle("picked", !span && first <= place && place < end);
      shown.dataset.place = place;
      pieces.push(shown);
      if (span && span.end === place + 1) pieces.push(make("span", span.kind, "tag"));
      pieces.push(document.createTextNode(" "));
    });
    text.replaceChildren(...pieces);
    const here = over(first, end).map((one) => one.kind).join(", ");
    now.textContent = "“" + words.slice(first, end).join(" ") + "”" + (here ? " is " + here : "");
    text.querySelector(".at")?.scrollIntoView({ block: "nearest" });
  }
  function move(place, choosing) {
    at = Math.max(0, Math.min(words.length - 1, place));
    if (!choosing) begin = at;
    draw();
  }
  function give(kind) {
    const [first, end] = range();
    found = found.filter((one) => one.end <= first || end <= one.first);
    found.push({ kind, first, end });
    found.sort((one, two) => one.first - two.first);
    extending = false;
    move(Math.min(end, words.length - 1), false);
  }
  function remove() {
    const gone = over(...range());
    found = found.filter((one) => !gone.includes(one));
    draw();
  }
  text.addEventListener("click", (event) => {
    const place = event.target.dataset?.place;
    if (place !== undefined) move(Number(place), event.shiftKey || extending);
    text.focus({ preventScroll: true });
  });
  job.labels.forEach((name, place) => {
    const one = button(name, LETTERS[place], () => give(name));
    one.classList.add("k" + (place % COLOURS));
    group.append(one);
  });
  const extend = button("Several words", "Shift", () => { extending = !extending; extend.setAttribute("aria-pressed", String(extending)); }, { pressed: false });
  group.append(extend, button("Remove", "⌫", remove));
  if (hooks.add) group.append(button("New label", "n", hooks.add));
  hosts.row.append(text);
  hosts.choices.replaceChildren(now, group);
  draw();
  return {
    confirms: true,
    focus: () => text.focus({ preventScroll: true }),
    value: () => found,
    key(event) {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) return move(at + step, event.shiftKey), true;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") return move(beside(text, at, event.key === "ArrowDown"), event.shiftKey), true;
      if (event.key === "Home" || event.key === "End") return move(event.key === "Home" ? 0 : words.length - 1, event.shiftKey), true;
      if (event.key === "Backspace" || event.key === "Delete") return remove(), true;
      const place = LETTERS.indexOf(event.key);
      if (place >= 0 && place < job.labels.length) return give(job.labels[place]), true;
      return false;
    },
  };
}

// The word nearest below or above another one on the screen.
function beside(text, at, down) {
  const all = [...text.querySelectorAll(".word")], own = all[at].getBoundingClientRect();
  const rows = all.map((word, place) => [place, word.getBoundingClientRect()]);
  const other = rows.filter(([, box]) => (down ? box.top > own.bottom - 2 : box.bottom < own.top + 2));
  if (!other.length) return at;
  const line = down ? Math.min(...other.map(([, box]) => box.top)) : Math.max(...other.map(([, box]) => box.top));
  const near = other.filter(([, box]) => Math.abs(box.top - line) < 4).sort((one, two) => Math.abs(one[1].left - own.left) - Math.abs(two[1].left - own.left));
  return near[0][0];
}

function text(job, row, said, hosts, hooks) {
  const before = row.content.answer || "";
  const field = make("textarea", null, "", { "aria-label": "Answer", spellcheck: "true" });
  field.value = said ?? before ?? "";
  if (!field.value && row.guess) field.value = row.guess.value;
  const reset = button("As it was", "r", () => { field.value = before; });
  const under = make("div", null, "choices under");
  under.append(button("Edit", "e", () => field.focus()), reset);
  const note = make("p", "In the field, Ctrl and Enter save, Esc leaves.", "quiet");
  hosts.choices.replaceChildren(make("span", "Answer", "field"), field, under, note);
  return {
    confirms: true,
    value: () => field.value,
    key(event) {
      if (event.key === "e") return field.focus(), field.setSelectionRange(field.value.length, field.value.length), true;
      if (event.key === "r") return (field.value = before), true;
      return false;
    },
  };
}

function preference(job, row, said, hosts, hooks) {
  let better = said ? said.better : null;
  const reasons = new Set(said ? said.reasons : []), letters = [..."qwertyiopzxcv"];
  const pair = make("div", null, "pair", { role: "group", "aria-label": "Which answer is better" });
  const under = make("div", null, "choices under"), why = make("div", null, "choices", { role: "group", "aria-label": "Reasons" });
  const note = make("input", null, "", { maxlength: "2000", "aria-label": "Note", placeholder: "In your own words" });
  note.value = said ? said.note : "";
  const sides = row.content.answers.map((one) => one.side);
  function choose(side) { better = side; draw(); }
  function draw() {
    pair.replaceChildren(...row.content.answers.map((one, place) => {
      const card = make("button", null, "", { type: "button", "aria-pressed": String(better === one.side), "aria-keyshortcuts": String(place + 1), onclick: () => choose(one.side) });
      const head = make("b", place === 0 ? "A" : "B");
      head.append(make("kbd", String(place + 1)));
      card.append(head, document.createTextNode(one.text));
      return card;
    }));
    under.replaceChildren(button("Neither is better", "3", () => choose("tie"), { pressed: better === "tie" }));
    why.replaceChildren(...job.reasons.map((name, place) => button(name, letters[place], () => toggle(name), { pressed: reasons.has(name) })));
  }
  function toggle(name) {
    if (!reasons.delete(name)) reasons.add(name);
    draw();
  }
  draw();
  const wide = make("label", "Note (m)", "field");
  hosts.choices.replaceChildren(pair, under, make("span", "Reasons", "field"), why, wide, note);
  return {
    confirms: true,
    value: () => (better === null ? null : { better, reasons: job.reasons.filter((name) => reasons.has(name)), note: note.value }),
    missing: "Choose A (1), B (2) or neither (3) first.",
    key(event) {
      const place = ["1", "2", "3"].indexOf(event.key);
      if (place >= 0) return choose([...sides, "tie"][place]), true;
      if (event.key === "m") return note.focus(), true;
      const letter = letters.indexOf(event.key);
      if (letter >= 0 && letter < job.reasons.length) return toggle(job.reasons[letter]), true;
      return false;
    },
  };
}

function rating(job, row, said, hosts, hooks) {
  const group = make("div", null, "choices scale", { role: "group", "aria-label": "Rating" });
  const all = Array.from({ length: job.high - job.low + 1 }, (_, step) => job.low + step);
  const key = (number) => (number >= 0 && number <= 9 ? String(number) : number === 10 && !all.includes(0) ? "0" : "");
  for (const number of all) group.append(button(String(number), key(number), () => hooks.save(number), { pressed: said === number }));
  hosts.choices.replaceChildren(group);
  return {
    value: () => said,
    key(event) {
      const number = all.find((one) => key(one) !== "" && key(one) === event.key);
      if (number !== undefined) return hooks.save(number), true;
      if (event.key === "Enter" && !group.contains(document.activeElement)) return accept(row, said, hooks);
      return keep(event, row, hooks);
    },
  };
}
