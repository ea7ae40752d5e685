// The start page: take files by drop or picker, pack several into one archive, upload, show the model.
import { announce, call, showError, size } from "./util.js";
import { packed } from "./tar.js";
import { Upload } from "./tus.js";

const form = document.getElementById("upload");
const idle = form.querySelector(".drop-idle");
const busy = form.querySelector(".drop-busy");
const bar = document.getElementById("upload-bar");
const state = document.getElementById("upload-state");
const pause = document.getElementById("upload-pause");
let current = null;

// Files of a drop with their paths; folders are walked.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ path: file.name, file }));
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
    found.push({ path: entry.fullPath.replace(/^\//, ""), file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) return;
    for (const inner of some) await walk(inner, found);
  }
}

async function take(entries) {
  showError("upload-error", null);
  if (!entries.length) return;
  const { blob, name } = packed(entries);
  if (!blob.size) { showError("upload-error", new Error(`${name} is empty.`)); return; }
  document.getElementById("upload-name").textContent = name;
  idle.hidden = true;
  busy.hidden = false;
  pause.textContent = "Pause";
  const started = performance.now();
  let first = null;
  const fingerprint = entries.map(({ path, file }) => `${path}:${file.size}:${file.lastModified}`).join("|");
  current = new Upload(form.dataset.endpoint, blob, name, fingerprint, {
    progress(sent, total) {
      if (first === null) first = sent;
      bar.max = total;
      bar.value = sent;
      const rate = (sent - first) / Math.max(0.05, (performance.now() - started) / 1000);
      state.textContent = `${size(sent)} of ${size(total)}, ${size(rate)}/s`;
    },
    state(words) { state.textContent = words; announce(words); },
  });
  try {
    const digest = await current.run();
    state.textContent = "Uploaded. Looking into the model.";
    const model = await call("POST", "/v1/models", { digest, filename: name });
    location.assign(`/models/${encodeURIComponent(model.id)}`);
  } catch (error) {
    idle.hidden = false;
    busy.hidden = true;
    if (!current.stopped) showError("upload-error", error);
  }
}

for (const picker of [document.getElementById("files"), document.getElementById("folder")]) {
  picker.addEventListener("change", () => {
    take([...picker.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
    picker.value = "";
  });
}
form.addEventListener("submit", (event) => event.preventDefault());

// The whole window takes the drop: a file that misses the box must not replace the page.
let depth = 0;
addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; form.classList.add("over"); });
addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) { depth = 0; form.classList.remove("over"); } });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", async (event) => {
  event.preventDefault();
  depth = 0;
  form.classList.remove("over");
  if (busy.hidden) take(await dropped(event.dataTransfer));
});

pause.addEventListener("click", () => {
  if (current.paused) current.resume(); else current.pause();
  pause.textContent = current.paused ? "Resume" : "Pause";
});
document.getElementById("upload-stop").addEventListener("click", () => current.stop());
