// The other views: rows to settle, how far people agree, and the keys.
import { inWords, LETTERS, make, percent, showContent, widget } from "./kinds.js";

const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));

export function showSettle(host, rows, job, page) {
  let place = 0, shown = null;
  const own = [..."ace"];
  function next() {
    place = Math.min(place, rows.length - 1);
    host.replaceChildren();
    shown = null;
    if (!rows.length) {
      const empty = make("div", null, "empty");
      empty.append(make("b", "Nothing to settle."), document.createTextNode("Rows that people answer differently, or flag, appear here."));
      return host.append(empty);
    }
    draw(rows[place]);
  }
  function draw(row) {
    const head = make("p", "Row " + (place + 1) + " of " + rows.length + " to settle · " + row.place, "quiet");
    const article = make("article", null, ""), choices = make("div"), said = make("div");
    article.id = "row";
    showContent(article, row, job);
    const answers = row.said.filter((one) => one.action === "answer");
    row.said.forEach((one) => {
      const box = make("div", null, "opinion"), text = make("p");
      text.append(make("b", one.annotator + ": "), document.createTextNode(one.action === "answer" ? inWords(one.value, job, row.content) : "flagged, " + one.reason));
      box.append(text);
      if (one.action === "answer") {
        const key = own[answers.indexOf(one)];
        const take = make("button", "Take this", "", { type: "button", onclick: () => decide(row, one.value) });
        if (key) take.append(make("kbd", key));
        box.append(take);
      }
      said.append(box);
    });
    const unsettled = { ...row, guess: null, given: null, likely: answers.map((one) => one.value).flat().filter((one) => typeof one === "string"), answer: { ...row.answer, action: "none" } };
    host.append(head, article, said, make("span", "Or answer it yourself", "field"), choices);
    const control = widget(job, unsettled, { row: article, choices }, { save: (value) => decide(row, value), add: null });
    const bar = make("div", null, "bar under");
    if (control.confirms) bar.append(make("button", "Settle so", "main", { type: "button", onclick: () => confirm() }));
    const drop = make("button", "Leave the row out", "", { type: "button", onclick: () => decide(row, null, "flag", "left out when settled") });
    drop.append(make("kbd", "l"));
    const later = make("button", "Next", "", { type: "button", onclick: () => turn(1) });
    later.append(make("kbd", "j"));
    bar.append(drop, later);
    host.append(bar);
    shown = { row, control, answers };
  }
  function turn(step) {
    place = (place + step + rows.length) % rows.length;
    next();
  }
  function decide(row, value, action = "answer", reason = "") {
    page.attempt(async () => {
      try {
        page.standing(await page.call("api/decide", { key: row.key, action, value, reason, revision: row.answer.revision }));
      } catch (error) {
        if (error.status !== 409) throw error;
        row.answer = { ...row.answer, revision: error.values.now.revision };
        page.trouble("Somebody else has settled this row meanwhile: " + inWords(error.values.now.value, job, row.content) + ". Settle it once more to say otherwise, or go on (j).");
        return;
      }
      rows.splice(rows.indexOf(row), 1);
      next();
      page.say("Settled: " + (action === "flag" ? "left out" : inWords(value, job, row.content)));
    });
  }
  function confirm() {
    if (!shown) return;
    const value = shown.control.value();
    if (value === null) page.say(shown.control.missing || "Choose an answer first.");
    else decide(shown.row, value);
  }
  next();
  return {
    confirm,
    key(event) {
      if (!shown || event.repeat) return false;
      const taken = own.indexOf(event.key);
      if (taken >= 0 && taken < shown.answers.length) return decide(shown.row, shown.answers[taken].value), true;
      if (event.key === "j") return turn(1), true;
      if (event.key === "l") return decide(shown.row, null, "flag", "left out when settled"), true;
      if (event.key !== "Enter" && event.key !== "k" && shown.control.key(event)) return true;
      if (event.key === "Enter" && shown.control.confirms) return confirm(), true;
      return false;
    },
  };
}

function table(head, rows) {
  const whole = make("table"), top = make("thead"), body = make("tbody"), line = make("tr");
  line.append(...head.map(([name, kind]) => make("th", name, kind, { scope: "col" })));
  top.append(line);
  body.append(...rows.map((cells) => {
    const row = make("tr");
    row.append(...cells.map((cell, place) => make("td", cell, head[place][1])));
    return row;
  }));
  whole.append(top, body);
  const wide = make("div", null, "wide");
  wide.append(whole);
  return wide;
}

export function showAgreement(host, found, job) {
  const parts = [make("h2", "Who has said how much")];
  parts.push(table(
    [["Annotator", ""], ["Answers", "n"], ["Skipped", "n"], ["Flagged", "n"], ["Seconds a row", "n"]],
    found.annotators.map((one) => [one.name, one.answer, one.skip, one.flag, one.median_seconds === null ? "–" : one.median_seconds.toFixed(1)]),
  ));
  parts.push(make("h2", "How far people agree (1: always; 0: as by chance)"));
  const alphas = Object.entries(found.krippendorff_alpha).map(([level, one]) => ["Krippendorff's alpha, " + level, number(one.value), one.n]);
  parts.push(table([["", ""], ["Value", "n"], ["n (" + found.unit + "s)", "n"]], [...alphas, ["Fleiss' kappa", number(found.fleiss_kappa.value), found.fleiss_kappa.n]]));
  if (found.pairs.length) {
    parts.push(table(
      [["Pair", ""], ["The same", "n"], ["Cohen's kappa", "n"], ["n", "n"]],
      found.pairs.map((one) => [one.first + " and " + one.second, percent(one.same), number(one.cohen_kappa), one.n]),
    ));
  } else {
    const shown = found.overlap ? percent(found.overlap) + " of the rows are shown to several." : "Let some rows be shown to several: --overlap 0.1.";
    parts.push(make("p", "No row has been answered by two people yet. " + shown, "quiet"));
  }
  if (found.confusions.length) {
    parts.push(make("h2", "What is taken for what"));
    parts.push(table([["One says", ""], ["Another says", ""], ["Times", "n"]], found.confusions.map((one) => [one.first, one.second, one.times])));
  }
  host.replaceChildren(...parts);
}

const KEYS = {
  label: [["1 2 3 …", "choose this label, and go on"], ["/", "find a label by a part of its name; arrows, Enter"], ["Enter", "take what is suggested"], ["k", "keep what the file says"]],
  labels: [["1 2 3 …", "choose or drop a label"], ["/", "find a label by a part of its name"], ["Enter", "save, and go on"]],
  spans: [["← → ↑ ↓", "go from word to word"], ["Shift ← →", "choose several words"], ["1 2 3 …", "give them a label"], ["⌫", "remove a label"], ["Enter", "save, and go on"]],
  text: [["e", "edit the answer"], ["Ctrl Enter", "save while editing"], ["Esc", "leave the field"], ["r", "as it was"], ["Enter", "save, and go on"]],
  preference: [["1 2 3", "A, B, or neither is better"], ["q w e …", "why"], ["m", "a note in your words"], ["Enter", "save, and go on"]],
  rating: [["1 2 3 …", "give this rating, and go on"], ["Enter", "take what is suggested"], ["k", "keep what the file says"]],
};
const COMMON = [["u", "take the last answer back"], ["s", "skip (Shift s: with a reason)"], ["f", "flag, with a reason"], ["b", "the row before"], ["h", "history of this row"], ["n", "new label"], ["g", "guidelines"], ["d", "light or dark"], ["Shift l e a", "label, settle, agreement"], ["?", "these keys"]];

export function showHelp(job) {
  const list = make("dl", null, "keys");
  const common = COMMON.filter(([key]) => key !== "n" || ["label", "labels", "spans"].includes(job.kind));
  for (const [key, what] of [...KEYS[job.kind], ...common]) {
    const term = make("dt");
    term.append(make("kbd", key));
    list.append(term, make("dd", what));
  }
  const many = job.labels.length > LETTERS.length ? [make("p", "There are more labels than keys: the likeliest have the numbers.", "quiet")] : [];
  return [list, ...many];
}
