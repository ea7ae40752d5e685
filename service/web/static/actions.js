// Buttons of a finished job (run again, name, delete) and of releases (create, move, roll back).
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

// Point a channel at an artifact. Look first: a channel that somebody moved in between is not overwritten. The
// service refuses an artifact of unhealthy statistics once; the person decides whether to release it anyway.
async function move(path, digest, accept = false) {
  const current = await fetch(path);
  const tag = current.ok ? { "If-Match": current.headers.get("etag") } : { "If-None-Match": "*" };
  try {
    return await call("PUT", path, { digest, accept_unhealthy: accept }, tag);
  } catch (error) {
    if (accept || error.code !== "unhealthy_artifact" || !confirm(`${error.message}\n\nRelease it anyway?`)) throw error;
    return move(path, digest, true);
  }
}

const release = document.getElementById("release-form");
release?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const say = document.getElementById("release-state");
  const [name, channel] = ["release-name", "release-channel"].map((id) => document.getElementById(id).value.trim());
  try {
    const made = await move(`/v1/releases/${encodeURIComponent(name)}/${encodeURIComponent(channel)}`, release.dataset.digest);
    say.textContent = `${made.name} / ${made.channel} is now version ${made.version}.`;
  } catch (error) { say.textContent = error.message; }
});

for (const button of document.querySelectorAll("[data-move-release]")) {
  button.addEventListener("click", async () => {
    const place = button.dataset.moveRelease.split("/").map(encodeURIComponent).join("/");
    try {
      await move(`/v1/releases/${place}`, button.dataset.digest);
      location.reload();
    } catch (error) { showError("action-error", error); }
  });
}

for (const form of document.querySelectorAll("[data-move-form]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const place = form.dataset.moveForm.split("/").map(encodeURIComponent).join("/");
    try {
      await move(`/v1/releases/${place}`, form.querySelector("input").value.trim());
      location.reload();
    } catch (error) { showError("action-error", error); }
  });
}

for (const button of document.querySelectorAll("[data-rename]")) {
  button.addEventListener("click", async () => {
    const name = prompt("Name of this job", button.dataset.name);
    if (name === null) return;
    try {
      await call("PATCH", button.dataset.rename, { name: name.trim() || null });
      location.reload();
    } catch (error) { showError("action-error", error); }
  });
}

for (const button of document.querySelectorAll("[data-delete]")) {
  button.addEventListener("click", async () => {
    if (!confirm("Delete this job and its report? An artifact that no release points to goes with it.")) return;
    try {
      await call("DELETE", button.dataset.delete);
      location.assign("/jobs");
    } catch (error) { showError("action-error", error); }
  });
}

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); }
});
