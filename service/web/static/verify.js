// The page that compares: upload a source and an ONNX file, queue the comparison, go to its job.
import { announce, call, showError, size } from "./util.js";
import { packed } from "./tar.js";
import { Upload } from "./tus.js";

const form = document.getElementById("compare");
const state = document.getElementById("compare-state");
const button = document.getElementById("compare-send");

async function sent(input, words) {
  const entries = [...input.files].map((file) => ({ path: file.name, file }));
  const { blob, name } = packed(entries);
  if (!blob.size) throw new Error(`${name} is empty.`);
  const fingerprint = entries.map(({ path, file }) => `${path}:${file.size}:${file.lastModified}`).join("|");
  const upload = new Upload(form.dataset.endpoint, blob, name, fingerprint, {
    progress(done, total) { state.textContent = `${words}: ${size(done)} of ${size(total)}`; },
    state(text) { state.textContent = `${words}: ${text}`; },
  });
  return { digest: await upload.run(), name };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  showError("compare-error", null);
  button.disabled = true;
  try {
    const source = await sent(document.getElementById("source"), "Source");
    const artifact = await sent(document.getElementById("artifact"), "ONNX file");
    announce("Uploaded.");
    const job = await call("POST", "/v1/jobs", {
      kind: "verify", input: source.digest, filename: source.name, candidate: artifact.digest,
    });
    location.assign(`/jobs/${encodeURIComponent(job.id)}`);
  } catch (error) {
    showError("compare-error", error);
    button.disabled = false;
  }
});
