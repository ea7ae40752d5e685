// Send the job of this page again with calibration data: the result compares stored and measured statistics.
import { call, showError } from "./util.js";
import { Upload } from "./tus.js";

const form = document.getElementById("calibrate-form");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const state = document.getElementById("calibrate-state");
  const button = form.querySelector("[type=submit]");
  const file = document.getElementById("calibrate-file").files[0];
  if (!file) return;
  button.disabled = true;
  showError("calibrate-error", null);
  try {
    const upload = new Upload(form.dataset.uploads, file, file.name, `calibration:${file.name}:${file.size}:${file.lastModified}`, {
      progress: (sent, total) => { state.textContent = `${Math.round((100 * sent) / Math.max(1, total))} %`; },
      state: (text) => { state.textContent = text; },
    });
    const calibration = await upload.run();
    const job = await call("POST", "/v1/jobs", { ...JSON.parse(form.dataset.body), calibration });
    location.assign(`/jobs/${encodeURIComponent(job.id)}`);
  } catch (error) {
    showError("calibrate-error", error);
    state.textContent = "";
    button.disabled = false;
  }
});
