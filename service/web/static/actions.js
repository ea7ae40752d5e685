// Buttons of a finished job: run again, and point a release at the artifact.
import { call, showError } from "./util.js";

for (const button of document.querySelectorAll("[data-post]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await call("POST", button.dataset.post);
      location.reload();
    } catch (error) {
      button.disabled = false;
      showError("action-error", error);
    }
  });
}

const release = document.getElementById("release-form");
release?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const say = document.getElementById("release-state");
  const [name, channel] = ["release-name", "release-channel"].map((id) => document.getElementById(id).value.trim());
  const path = `/v1/releases/${encodeURIComponent(name)}/${encodeURIComponent(channel)}`;
  try {
    // Look first: a channel that somebody moved in between is not overwritten.
    const current = await fetch(path);
    const tag = current.ok ? { "If-Match": current.headers.get("etag") } : { "If-None-Match": "*" };
    const made = await call("PUT", path, { digest: release.dataset.digest }, tag);
    say.textContent = `${made.name} / ${made.channel} is now version ${made.version}.`;
  } catch (error) { say.textContent = error.message; }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); }
});
