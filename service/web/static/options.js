// The options form as the JSON body of a job. What equals the default is left out: the job's cache key is
// then that of a plain submission, and the report lists only what was really chosen.
import { call, showError } from "./util.js";
import { Upload } from "./tus.js";

const form = document.getElementById("options-form");
const state = document.getElementById("options-state");

const scalar = (words) => {
  if (words === "true" || words === "false") return words === "true";
  return words !== "" && Number.isFinite(Number(words)) ? Number(words) : words;
};

const dims = (words) => words.split(/[,x×]/).map((part) => part.trim()).filter(Boolean)
  .map((part) => (part === "?" || part === "-1" ? null : /^\d+$/.test(part) ? Number(part) : part));

const lines = (words) => words.split("\n").map((line) => line.trim()).filter(Boolean);

function pairs(words, parse) {
  return Object.fromEntries(lines(words).map((line) => {
    const at = line.lastIndexOf("=");
    if (at < 1) throw new Error(`“${line}”: expected NAME=VALUE.`);
    return [line.slice(0, at).trim(), parse(line.slice(at + 1).trim())];
  }));
}

const readers = {
  flag: (field) => { const on = field.querySelector("input").checked; return String(on) === field.dataset.default ? undefined : on; },
  choice: (field) => { const { value } = field.querySelector("select"); return value === field.dataset.default ? undefined : value; },
  integer: (field) => number(field),
  number: (field) => number(field),
  text: (field) => field.querySelector("input").value.trim() || undefined,
  names: (field) => list(lines(field.querySelector("textarea").value)),
  feeds: (field) => object(pairs(field.querySelector("textarea").value, (value) => (value.startsWith("[") ? JSON.parse(value) : scalar(value)))),
  renames: (field) => object(pairs(field.querySelector("textarea").value, (value) => value)),
  picks(field) {
    const chosen = [...field.querySelectorAll("input:checked")].map((input) => input.value);
    return chosen.join(",") === field.dataset.default ? undefined : list(chosen);
  },
  shapes(field) {
    const area = field.querySelector("textarea");
    if (area) return object(pairs(area.value, dims));
    const rows = [...field.querySelectorAll(".shape-row")].filter((row) => row.querySelector("[type=checkbox]").checked);
    return object(Object.fromEntries(rows.map((row) => [row.querySelector("[data-name]").dataset.name, dims(row.querySelector("[type=text]").value)])));
  },
};

function number(field) {
  const input = field.querySelector("input");
  if (!input.value || input.value === field.dataset.default) return undefined;
  return Number(input.value);
}
function list(items) { return items.length ? items : undefined; }
function object(value) { return Object.keys(value).length ? value : undefined; }

function options() {
  const body = {};
  for (const field of form.querySelectorAll("[data-option]")) {
    const value = readers[field.dataset.kind](field);
    if (value !== undefined) body[field.dataset.option] = value;
  }
  return body;
}

async function attachment(id, words) {
  const file = document.getElementById(id).files[0];
  if (!file) return undefined;
  const upload = new Upload(form.dataset.uploads, file, file.name, `${id}:${file.name}:${file.size}:${file.lastModified}`, {
    progress: (sent, total) => { state.textContent = `${words}: ${Math.round((100 * sent) / Math.max(1, total))} %`; },
    state: (text) => { state.textContent = text; },
  });
  return upload.run();
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const buttons = document.querySelectorAll("[form=options-form], #options-form [type=submit]");
  showError("options-error", null);
  for (const button of buttons) button.disabled = true;
  try {
    const body = { model: form.dataset.model, options: options() };
    const calibration = await attachment("calibration", "Calibration data");
    const probe = await attachment("probe", "Test inputs");
    if (calibration) body.calibration = calibration;
    if (probe) body.probe = probe;
    state.textContent = "Sending.";
    const job = await call("POST", "/v1/jobs", body);
    location.assign(`/jobs/${encodeURIComponent(job.id)}`);
  } catch (error) {
    showError("options-error", error);
    state.textContent = "";
    for (const button of buttons) button.disabled = false;
  }
});
