// What every page does: theme switch, local times, copy buttons, reloading while something is pending.
import { announce, call, element, seconds } from "./util.js";

const root = document.documentElement;

document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* storage may be forbidden */ }
});

for (const time of document.querySelectorAll("time[datetime]")) {
  const when = new Date(time.dateTime);
  if (!time.dateTime || Number.isNaN(when.getTime())) continue;
  time.title = time.textContent;
  time.textContent = when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = button.closest(".snippet").querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.closest(".snippet").querySelector("code"));
      button.textContent = "Selected";
    }
    announce(button.textContent);
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

for (const form of document.querySelectorAll("[data-filter]")) {
  const rows = document.querySelectorAll(`#${form.dataset.filter} tbody tr`);
  const text = form.querySelector("[data-filter-text]");
  const flagged = form.querySelector("[data-filter-flagged]");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    const wanted = text.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const keep = row.dataset.name.toLowerCase().includes(wanted) && (!flagged.checked || row.dataset.flagged === "yes");
      row.hidden = !keep;
      count += keep;
    }
    announce(`${count} layers`);
  });
}

// An error that passes: the page counts down and comes back by itself, once.
const retry = document.getElementById("retry");
if (retry) {
  const left = retry.querySelector("strong");
  const until = Date.now() + 1000 * Number(retry.dataset.wait);
  retry.querySelector("[data-again]").addEventListener("click", () => location.reload());
  const count = () => {
    const rest = (until - Date.now()) / 1000;
    if (rest <= 0) return location.reload();
    left.textContent = seconds(Math.max(1, rest));
    return setTimeout(count, 1000);
  };
  if (Number(retry.dataset.wait) <= 120) count();
}

// The account menu says who is signed in, once it is opened.
const account = document.querySelector("[data-account]");
account?.addEventListener("toggle", async () => {
  const place = document.getElementById("account-facts");
  if (!account.open || place.dataset.known) return;
  place.dataset.known = "yes";
  try {
    const found = await call("GET", "/v1/account");
    const expires = found.key && found.key.expires_at ? `expires ${new Date(found.key.expires_at).toLocaleDateString()}` : "does not expire";
    const lines = [`Tenant ${found.tenant}`, found.key ? `Key ${found.key.name || found.key.id}, ${expires}` : "", `Scopes: ${found.scopes.join(", ")}`];
    place.replaceChildren(...lines.filter(Boolean).map((line) => element("div", {}, line)));
  } catch (error) { place.textContent = error.message; }
});

const pending = document.querySelector("[data-reload]");
if (pending) {
  // The page itself comes back changed when the inspection is done; a hidden tab waits.
  let wait = 700;
  const line = document.getElementById("pending-line");
  const say = ({ state, queue }) => {
    const about = queue && queue.estimate_seconds ? `, about ${seconds(queue.estimate_seconds)}` : "";
    const words = state !== "queued" ? "Reading the model. Nothing of it is being run."
      : queue ? `Waiting to be read: number ${queue.position} in the queue${about}.` : "Waiting to be read.";
    if (line && line.textContent !== words) line.textContent = words;
  };
  const look = async () => {
    if (!document.hidden) {
      const answer = await fetch(pending.dataset.reload, { headers: { accept: "application/json" } }).catch(() => null);
      const found = answer && answer.ok ? await answer.json() : null;
      if (found && !["queued", "running", "stopping"].includes(found.state)) return location.reload();
      if (found) say(found);
      wait = Math.min(wait * 1.3, 5000);
    }
    return setTimeout(look, wait);
  };
  setTimeout(look, wait);
}
