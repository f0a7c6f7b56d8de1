// The list: filters without a reload, endless pages, finding by title, and what each row has.

import { fetchFragment, fetchJson, isTyping } from "./page.js";

const MAX_GLANCES = 3;
const form = document.getElementById("filters");
const find = document.getElementById("find");
const rows = document.getElementById("rows");
const count = document.getElementById("count");
const skeleton = rows.firstElementChild.cloneNode(true);
let abort = new AbortController();

// Each visible row is looked at once, a few at a time.
const waiting = [];
let glancing = 0;

function glanceAtNext() {
  while (glancing < MAX_GLANCES && waiting.length) {
    const row = waiting.shift();
    if (!row.isConnected) continue;
    glancing += 1;
    fetchJson(`/recordings/${row.dataset.id}/glance`)
      .then((found) => show(row, found), () => {})
      .finally(() => { glancing -= 1; glanceAtNext(); });
  }
}

function show(row, { state, kinds }) {
  const badge = row.querySelector(".archive .badge");
  badge.className = `badge ${state.tone}`;
  badge.textContent = state.word;
  badge.title = state.sentence;
  mark(row);
  row.querySelector(".kinds").replaceChildren(...kinds.map((kind) => {
    const item = document.createElement("span");
    item.textContent = kind;
    return item;
  }));
}

function mark(row) {
  const badge = row.querySelector(".archive .badge");
  row.classList.toggle("stands-out", badge.matches(".risk, .bad"));
  row.classList.toggle("bad", badge.matches(".bad"));
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    if (target.matches(".more")) more(target);
    else waiting.push(target);
  }
  glanceAtNext();
}, { rootMargin: "300px" });

async function reload() {
  abort.abort();
  abort = new AbortController();
  waiting.length = 0;
  const filters = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  history.replaceState(null, "", filters.size ? `/?${filters}` : "/");
  document.getElementById("clear").hidden = !filters.size;
  rows.replaceChildren(skeleton.cloneNode(true));
  loaded = shown = 0;
  await fill(`/rows?${filters}`, rows.firstElementChild);
}

/** Replace a place in the list by the rows at an address. */
async function fill(address, place) {
  rows.setAttribute("aria-busy", "true");
  const before = place.previousElementSibling?.lastElementChild;
  let found;
  try {
    found = await fetchFragment(address, abort.signal);
  } catch {
    return; // The filters changed meanwhile.
  }
  rows.setAttribute("aria-busy", "false");
  if (found.isOk) {
    place.replaceWith(...found.elements);
  } else {
    const problem = document.createElement("div");
    problem.append(...found.elements);
    place.replaceWith(problem);
    problem.querySelector("[data-retry]")?.addEventListener("click", () => fill(address, problem));
  }
  const [batch] = found.elements.filter((element) => element.matches(".batch"));
  const added = [...batch?.querySelectorAll(".row") ?? []];
  round(before);
  for (const row of added) {
    mark(row);
    round(row);
    seen.observe(row);
  }
  for (const element of found.elements) if (element.matches(".more")) seen.observe(element);
  narrow(added);
}

/** Give the last row of a day its round corners. */
function round(row) {
  if (row?.matches(".row")) row.classList.toggle("end", !following(row)?.matches(".row"));
}

/** Return the row or the day after one, perhaps in the next batch. */
function following(item) {
  return item.nextElementSibling ?? item.parentElement.nextElementSibling?.firstElementChild;
}

function more(item) {
  if (item.querySelector(".skeleton")) return;
  item.replaceChildren(...skeleton.cloneNode(true).childNodes);
  fill(item.dataset.next, item);
}

let loaded = 0;
let shown = 0;

/** Hide those of the new rows, or of all, whose title lacks the text; say how many are left. */
function narrow(added) {
  const wanted = find.value.trim().toLowerCase();
  if (!added) loaded = shown = 0;
  for (const row of added ?? rows.querySelectorAll(".row")) {
    row.hidden = wanted !== "" &&
      !row.querySelector(".title").textContent.toLowerCase().includes(wanted);
    loaded += 1;
    shown += row.hidden ? 0 : 1;
  }
  if (wanted || !added) hideEmptyDays(wanted);
  const hasMore = rows.lastElementChild?.matches(".more");
  const total = `${loaded.toLocaleString("en")}${hasMore ? " loaded" : ""}`;
  count.textContent = loaded === 0 ? "" : wanted ? `${shown} of ${total} match` :
    `${total}${hasMore ? "" : loaded === 1 ? " recording" : " recordings"}`;
}

function hideEmptyDays(wanted) {
  for (const day of rows.querySelectorAll(".day")) {
    let next = following(day);
    while (next?.matches(".row") && next.hidden) next = following(next);
    day.hidden = wanted !== "" && !next?.matches(".row");
  }
}

form.addEventListener("change", (event) => { if (event.target !== find) reload(); });
form.addEventListener("submit", (event) => { event.preventDefault(); reload(); });
form.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const field of form.elements) if ("value" in field) field.value = "";
  reload();
});
find.addEventListener("input", () => narrow());
rows.addEventListener("click", (event) => {
  const item = event.target.closest(".more");
  if (item) more(item);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target === find) { find.value = ""; narrow(); find.blur(); }
  if (isTyping(event)) return;
  if (event.key === "/") { event.preventDefault(); find.focus(); }
  if (event.key === "j" || event.key === "k") {
    const links = [...rows.querySelectorAll(".row:not([hidden]) .title")];
    const at = links.indexOf(document.activeElement);
    const next = links[at + (event.key === "j" ? 1 : -1)] ?? links[at < 0 ? 0 : at];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }
});

reload();
