/* Keys, times of the reader's zone, copying, and the count of new runs. Every page works without it. */

const link = (key) => document.querySelector(`a[data-key="${key}"]`);

// --- Times: the page has UTC, the reader sees the own zone, and UTC on hover.

function localTimes() {
  const thisYear = new Date().getFullYear();
  const parts = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };
  const inList = new Intl.DateTimeFormat(undefined, parts);
  const full = new Intl.DateTimeFormat(undefined, { ...parts, year: "numeric", second: "2-digit" });
  for (const time of document.querySelectorAll("time.tj-time")) {
    const at = new Date(time.dateTime);
    const isShort = time.closest("#result_list, .tj-runs") && at.getFullYear() === thisYear;
    if (!Number.isNaN(at.getTime())) time.textContent = (isShort ? inList : full).format(at);
  }
}

// --- Keys

const rows = () => [...document.querySelectorAll("#result_list tbody th a, #result_list .field-request_summary a")];

function move(step) {
  const link_ = link(step > 0 ? "j" : "k");
  if (link_) return link_.click();
  const all = rows();
  if (!all.length) return undefined;
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step;
  return next in all ? all[next].focus() : link(step > 0 ? "next page" : "previous page")?.click();
}

function search() {
  const box = document.getElementById("searchbar");
  if (!box) return link("u")?.click();
  box.focus();
  return box.select();
}

const open = (id) => document.getElementById(id)?.showModal();
const ACTIONS = {
  j: () => move(1),
  k: () => move(-1),
  v: () => link("v")?.click(),
  u: () => link("u")?.click(),
  "/": search,
  "?": () => open("tj-keys"),
  "g o": () => link("g o")?.click(),
};

let prefix = "";

function pressed(event) {
  const isTyping = event.target.closest?.("input, textarea, select, [contenteditable], dialog");
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const action = ACTIONS[prefix + event.key];
  prefix = event.key === "g" ? "g " : "";
  if (!action) return;
  event.preventDefault();
  action();
}

// --- Copying, and opening of dialogs and of the phase that an address names

function clicked(event) {
  const button = event.target.closest?.("[data-copies], [data-opens], [data-folds]");
  if (!button) return;
  if (button.dataset.opens) open(button.dataset.opens);
  else if (button.dataset.folds) fold(button);
  else copy(button);
}

function fold(button) {
  const parts = [...document.getElementById(button.dataset.folds).querySelectorAll("details")];
  const isOpening = parts.some((part) => !part.open);
  for (const part of parts) part.open = isOpening;
  button.textContent = isOpening ? "Close all" : "Open all";
}

async function copy(button) {
  const field = document.getElementById(button.dataset.copies);
  await navigator.clipboard.writeText(field.value ?? field.textContent);
  button.textContent = "Copied";
}

function openNamed() {
  const named = location.hash.startsWith("#phase-") && document.getElementById(location.hash.slice(1));
  if (!named) return;
  named.closest("details").open = true;
  named.closest("details").scrollIntoView({ block: "nearest" });
}

// --- New runs

function watch(line) {
  const address = new URL(line.dataset.live, location.href);
  address.searchParams.set("after", line.dataset.after);
  const [text, show] = [line.querySelector("[data-live-text]"), line.querySelector("[data-live-show]")];
  async function ask() {
    if (document.hidden) return;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`${answer.status}`);
      const { new: count, is_more: isMore } = await answer.json();
      text.textContent = count ? `${count}${isMore ? " or more" : ""} new ${count === 1 ? "run" : "runs"}.` : "Waiting for new runs.";
      show.hidden = !count;
    } catch {
      text.textContent = "The server does not answer; trying again.";
    }
  }
  setInterval(ask, Number(line.dataset.every) * 1000);
  document.addEventListener("visibilitychange", ask);
}

localTimes();
document.addEventListener("keydown", pressed);
document.addEventListener("click", clicked);
addEventListener("hashchange", openNamed);
openNamed();
for (const line of document.querySelectorAll("[data-live]")) watch(line);
for (const part of document.querySelectorAll("[data-reload]")) setInterval(() => document.hidden || location.reload(), Number(part.dataset.reload) * 1000);
for (const button of document.querySelectorAll("[data-folds]")) button.hidden = false;
// The clipboard exists on pages of a secure origin only.
for (const button of document.querySelectorAll("[data-copies]")) button.hidden = !navigator.clipboard;
