// Keys and webhooks: create one (its secret is shown once), remove one.
import { announce, call, showError } from "./util.js";

function ticked(form) {
  return [...form.querySelectorAll("input[type=checkbox]:checked")].map((input) => input.value);
}

function creates(id, path, body) {
  const form = document.getElementById(id);
  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    showError("action-error", null);
    try {
      const made = await call("POST", path, body(form));
      document.getElementById("secret-text").textContent = made.secret;
      document.getElementById("secret").hidden = false;
      announce("Created. The secret is shown once.");
    } catch (error) { showError("action-error", error); }
    button.disabled = false;
  });
}

creates("key-form", "/v1/keys", (form) => ({
  name: document.getElementById("key-name").value.trim(),
  scopes: ticked(form),
  days: Number(document.getElementById("key-days").value) || null,
}));
creates("webhook-form", "/v1/webhooks", (form) => ({
  url: document.getElementById("webhook-url").value.trim(),
  events: ticked(form),
}));

for (const button of document.querySelectorAll("[data-remove]")) {
  button.addEventListener("click", async () => {
    if (!confirm(button.dataset.question)) return;
    try {
      await call("DELETE", button.dataset.remove);
      location.reload();
    } catch (error) { showError("action-error", error); }
  });
}
