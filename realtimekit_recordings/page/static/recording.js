// A recording: the player and its links, the transcript beside it, links to hand on, and changes.

import { fetchJson, isTyping, load, say, whileBusy } from "./page.js";

const address = document.getElementById("recording").dataset.address;
const player = document.getElementById("player");
const problem = document.getElementById("player-problem");
const sources = [...document.querySelectorAll(".sources button")];

// --- links that end ---

// Renew a link so long before it ends.
const MARGIN_MS = 60_000;
const MIN_WAIT_MS = 5_000;
let renewal;
let failures = 0;

function plan() {
  clearTimeout(renewal);
  const left = Date.parse(player.dataset.expires) - Date.now() - MARGIN_MS;
  // A week and more does not fit into a timer; such a link is RealtimeKit's.
  if (left < 2 ** 31) renewal = setTimeout(renew, Math.max(left, MIN_WAIT_MS));
}

/** Go on at the same place with new links. */
async function renew() {
  const { links } = await fetchJson(`${address}/links`);
  let link = links.find(({ name }) => name === player.dataset.name);
  if (!link) {
    const name = encodeURIComponent(player.dataset.name);
    link = (await fetchJson(`${address}/links?artifact=${name}`)).links[0];
  }
  for (const button of sources) {
    const other = links.find(({ name }) => name === button.dataset.name);
    if (other) Object.assign(button.dataset, { url: other.url, expires: other.expires_at });
  }
  play(link.name, link.url, link.expires_at);
}

function play(name, url, expires) {
  const at = player.currentTime || resume;
  const isPlaying = !player.paused && !player.ended;
  Object.assign(player.dataset, { name, expires });
  player.src = url;
  resume = at;
  if (isPlaying) player.play().catch(() => {});
  plan();
}

let resume = 0;

if (player) {
  player.addEventListener("loadedmetadata", () => {
    if (resume > 0) player.currentTime = Math.min(resume, player.duration || resume);
    resume = 0;
    problem.hidden = true;
  });
  player.addEventListener("playing", () => { failures = 0; });
  player.addEventListener("error", async () => {
    resume = player.currentTime || resume;
    failures += 1;
    if (failures > 2) return explain();
    try {
      await renew();
    } catch (error) {
      explain(error.message);
    }
  });
  // A video that failed before this script ran.
  if (player.error) player.dispatchEvent(new Event("error"));
  plan();
}

function explain(reason) {
  problem.textContent = reason ?? "This browser cannot play the file. Download it below.";
  problem.hidden = false;
}

document.addEventListener("securitypolicyviolation", (event) => {
  // The file has moved to another host, such as from RealtimeKit to the archive.
  if (event.effectiveDirective !== "media-src" || location.hash === "#moved") return;
  location.hash = "#moved";
  location.reload();
});

for (const button of sources) {
  button.addEventListener("click", () => {
    for (const other of sources) other.setAttribute("aria-pressed", String(other === button));
    player.className = button.dataset.kind;
    failures = 0;
    play(button.dataset.name, button.dataset.url, button.dataset.expires);
  });
}

// --- what was said, and where ---

const search = document.getElementById("search");
const matches = document.getElementById("matches");
const tabs = [...document.querySelectorAll("[role=tab]")];
let places = [];
let current = null;
let scrolledAt = 0;

function panel() {
  return document.querySelector(".panel:not([hidden])");
}

function take(place) {
  const items = [...place.querySelectorAll("li[data-t]")];
  places = items.map((item) => ({ item, time: Number(item.dataset.t) }))
    .filter(({ time }) => time >= 0).sort((a, b) => a.time - b.time);
  current = null;
  follow();
}

/** Mark the line that is said now, and keep it in view unless the reader looks elsewhere. */
function follow() {
  if (!player || !places.length) return;
  let low = 0;
  let high = places.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle].time <= player.currentTime + 0.05) low = middle + 1;
    else high = middle;
  }
  const now = low && (player.currentTime > 0 || !player.paused) ? places[low - 1].item : null;
  if (now === current) return;
  current?.removeAttribute("aria-current");
  now?.setAttribute("aria-current", "true");
  current = now;
  if (now && Date.now() - scrolledAt > 4_000) bring(now);
}

function bring(item) {
  const box = panel();
  if (box.contains(item)) box.scrollTop = item.offsetTop - box.clientHeight / 3;
}

function jump(item) {
  if (!player || !item || !(Number(item.dataset.t) >= 0)) return;
  scrolledAt = 0;
  player.currentTime = Number(item.dataset.t);
  if (player.readyState === 0) resume = Number(item.dataset.t);
  player.play().catch(() => {});
}

player?.addEventListener("timeupdate", follow);
player?.addEventListener("seeking", follow);
for (const box of document.querySelectorAll(".panel")) {
  for (const kind of ["wheel", "touchmove"]) {
    box.addEventListener(kind, () => { scrolledAt = Date.now(); }, { passive: true });
  }
  box.addEventListener("loaded", () => { if (!box.hidden) { take(box); look(); } });
  box.addEventListener("click", (event) => {
    const item = event.target.closest("li[data-t]");
    if (item && !getSelection().toString()) jump(item);
  });
}

function choose(tab) {
  for (const other of tabs) {
    const isChosen = other === tab;
    other.setAttribute("aria-selected", String(isChosen));
    other.tabIndex = isChosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !isChosen;
  }
  const box = panel();
  if (box.querySelector(".skeleton")) load(box);
  else take(box);
  look();
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.stopPropagation();
    const other = tabs[(tabs.indexOf(tab) + 1) % tabs.length];
    choose(other);
    other.focus();
  });
}

// --- search ---

let found = [];
let at = -1;

/** Find the text in the panel; matches are marked without a change of the document. */
function look() {
  const wanted = search.value.trim().toLowerCase();
  found = [];
  at = -1;
  if (wanted) {
    for (const words of panel().querySelectorAll(".words, .who")) {
      const node = words.firstChild;
      const text = node?.data.toLowerCase() ?? "";
      for (let from = text.indexOf(wanted); from >= 0; from = text.indexOf(wanted, from + wanted.length)) {
        const range = new Range();
        range.setStart(node, from);
        range.setEnd(node, Math.min(from + wanted.length, node.length));
        found.push(range);
      }
    }
  }
  if (window.Highlight) {
    CSS.highlights.set("found", new Highlight(...found));
    CSS.highlights.delete("found-now");
  }
  matches.textContent = !wanted ? "" : found.length === 1 ? "1 match" : `${found.length} matches`;
  if (found.length) step(1);
}

function step(by) {
  if (!found.length) return;
  at = (at + by + found.length) % found.length;
  scrolledAt = Date.now();
  const item = found[at].startContainer.parentElement.closest("li");
  bring(item);
  if (window.Highlight) CSS.highlights.set("found-now", new Highlight(found[at]));
  matches.textContent = `${at + 1} of ${found.length}`;
}

search.addEventListener("input", look);
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") { event.preventDefault(); step(event.shiftKey ? -1 : 1); }
  if (event.key === "Escape") { search.value = ""; look(); search.blur(); }
});

// --- keyboard ---

const KEYS = {
  " ": () => (player.paused ? player.play().catch(() => {}) : player.pause()),
  ArrowLeft: () => { player.currentTime -= 5; },
  ArrowRight: () => { player.currentTime += 5; },
  m: () => { player.muted = !player.muted; },
  c: () => { for (const track of player.textTracks) track.mode = track.mode === "showing" ? "hidden" : "showing"; },
  j: () => jump(places.find(({ time }) => time > player.currentTime + 0.05)?.item),
  k: () => jump(places.filter(({ time }) => time < player.currentTime - 1).at(-1)?.item),
};

document.addEventListener("keydown", (event) => {
  if (isTyping(event)) return;
  if (event.key === "/") { event.preventDefault(); search.focus(); return; }
  const isControl = event.target.closest("button, a, summary, video, .panel") !== null;
  const act = KEYS[event.key];
  // Space presses a button, arrows scroll; the player's own keys work on it already.
  if (!act || !player || (isControl && !/^[a-z]$/.test(event.key))) return;
  event.preventDefault();
  act();
});

// --- links to hand on, and changes ---

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => whileBusy(button, async () => {
    const seconds = Number(document.getElementById("link-seconds").value);
    const { url, until } = await fetchJson(`${address}/link`, { artifact: button.dataset.copy, seconds });
    await navigator.clipboard.writeText(url);
    say(`Link copied. Anyone who has it can download the file until ${until}.`);
  }));
}

/** Send a change, say what was done, and show the recording as it is then. */
async function change(where, body) {
  const { done } = await fetchJson(where, body);
  say(done);
  setTimeout(() => location.reload(), 800);
}

for (const button of document.querySelectorAll("[data-post]")) {
  const { post, name } = button.dataset;
  button.addEventListener("click", () => whileBusy(button, () => change(post, name ? { name } : {})));
}

for (const form of document.querySelectorAll("form.change")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const body = Object.fromEntries(new FormData(form));
    whileBusy(form.querySelector("[type=submit]"), () => change(form.getAttribute("action"), body));
  });
}

const eraseForm = document.getElementById("erase-form");
const confirmation = document.getElementById("confirmation");
const eraseProblem = document.getElementById("erase-problem");
const eraseButton = eraseForm.querySelector("[type=submit]");

confirmation.addEventListener("input", () => {
  eraseButton.disabled = confirmation.value.trim() !== eraseForm.dataset.confirmation;
});
eraseForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (eraseButton.disabled) return;
  eraseButton.disabled = true;
  eraseProblem.hidden = true;
  try {
    await fetchJson(eraseForm.getAttribute("action"), { confirmation: confirmation.value.trim() });
    location.reload();
  } catch (error) {
    eraseProblem.textContent = error.message;
    eraseProblem.hidden = false;
    eraseButton.disabled = false;
  }
});
