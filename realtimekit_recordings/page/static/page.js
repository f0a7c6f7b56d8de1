// What all pages share: fragments, changes, messages, dialogs, and the keyboard.

const csrfToken = document.querySelector('meta[name="csrf-token"]').content;

/** Return the elements of a fragment of this server; its own error is a fragment as well. */
export async function fetchFragment(address, signal) {
  let html;
  try {
    const answer = await fetch(address, { headers: { "X-Fragment": "html" }, signal });
    html = await answer.text();
    const found = new DOMParser().parseFromString(html, "text/html").body;
    return { isOk: answer.ok, elements: [...found.children] };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { isOk: false, elements: [offline()] };
  }
}

function offline() {
  const box = document.createElement("div");
  box.className = "problem";
  box.setAttribute("role", "alert");
  const title = document.createElement("h2");
  title.textContent = "The page was closed";
  const reason = document.createElement("p");
  reason.textContent = "Its server does not answer any more. Start the command again.";
  const again = document.createElement("button");
  again.dataset.retry = "";
  again.textContent = "Try again";
  box.append(title, reason, again);
  return box;
}

/** Return a JSON answer of this server. Throws an Error with a sentence for people. */
export async function fetchJson(address, body) {
  const headers = { "X-Fragment": "json" };
  const options = { headers };
  if (body !== undefined) {
    headers["X-CSRF-Token"] = csrfToken;
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The page's server does not answer any more. Start the command again.");
  }
  const type = answer.headers.get("Content-Type") ?? "";
  const found = type.startsWith("application/json") ? await answer.json() : {};
  if (!answer.ok) throw new Error(found.error ?? "This was refused. Load the page again.");
  return found;
}

let toastTimer;

/** Show a sentence for some seconds; a trouble stays longer. */
export function say(sentence, tone = "ok") {
  const line = document.createElement("p");
  line.className = tone;
  line.textContent = sentence;
  document.querySelector("#toast").replaceChildren(line);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => line.remove(), tone === "bad" ? 12_000 : 5_000);
}

/** Fill an element with its fragment; `loaded` tells the other scripts. */
export async function load(place) {
  const { isOk, elements } = await fetchFragment(place.dataset.load);
  place.replaceChildren(...elements);
  place.querySelector("[data-retry]")?.addEventListener("click", () => load(place));
  if (isOk) place.dispatchEvent(new CustomEvent("loaded", { bubbles: true }));
}

/** Return true if a key is meant for a field or a dialog, or comes with another key. */
export function isTyping(event) {
  const target = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || target.closest?.("dialog") !== null ||
    target.matches?.("input:not([type=button]), select, textarea");
}

/** Have an element act on a press, and be busy meanwhile. */
export async function whileBusy(button, action) {
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    await action();
  } catch (error) {
    say(error.message, "bad");
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  const closer = event.target.closest("[data-closes]");
  if (closer) closer.closest("dialog").close();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !isTyping(event)) document.getElementById("keys").showModal();
});

for (const place of document.querySelectorAll("[data-load]")) {
  // What a tab hides is loaded when it is first shown.
  if (!place.hidden) load(place);
}
