// A job while it runs: stages, log and the way to stop it, from the service's event stream. The stream starts
// with everything that has happened, so a page that is opened late shows the same as one that was always open.
import { announce, call, element, seconds, showError } from "./util.js";

const live = document.getElementById("live");
const job = live.dataset.job;
const path = `/v1/jobs/${encodeURIComponent(job)}`;
const stages = new Map([...document.querySelectorAll("[data-stage]")].map((item) => [item.dataset.stage, item]));
const order = [...stages.keys()];
const line = document.getElementById("live-line");
const bar = document.getElementById("live-bar");
const log = document.getElementById("log");
const badge = document.getElementById("live-state").firstElementChild.lastChild;
const cancel = document.getElementById("cancel");
const begun = new Map();
let current = null;
let last = 0;
let waiting = live.dataset.state === "queued";

function note(at, words) {
  const stick = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
  const time = element("time", { datetime: at }, new Date(at).toLocaleTimeString());
  log.append(element("li", {}, time, words));
  while (log.children.length > 2000) log.firstChild.remove();
  if (stick) log.scrollTop = log.scrollHeight;
}

function finish(name, at) {
  const item = stages.get(name);
  if (!item) return;
  item.classList.remove("now");
  item.classList.add("done");
  if (begun.has(name)) item.querySelector(".stage-time").textContent = seconds((at - begun.get(name)) / 1000);
}

function progress(data) {
  const at = new Date(data.at).getTime();
  if (data.stage !== current) {
    if (current) finish(current, at);
    current = data.stage;
    const item = stages.get(current);
    if (item) {
      for (const name of order.slice(0, order.indexOf(current))) if (begun.has(name)) stages.get(name).classList.add("done");
      begun.set(current, at);
      item.classList.remove("done");
      item.classList.add("now");
      line.textContent = `${item.querySelector(".stage-name").textContent}.`;
      announce(line.textContent);
    }
    if (!data.message) note(data.at, `${data.stage} …`);
  }
  const item = stages.get(current);
  if (item && data.fraction >= 1 && current !== order.at(-1)) finish(current, at);
  if (item && data.message) item.querySelector(".stage-note").textContent = data.message;
  if (data.message) note(data.at, data.message);
  bar.value = Math.max(bar.value, (Math.max(0, order.indexOf(current)) + (data.fraction || 0)) / order.length);
}

const words = {
  queued: "Waiting for a worker.", running: "Running.", stopping: "Stopping.", succeeded: "Done. Opening the result.",
  rejected: "Done. Opening the result.", failed: "The job failed.", cancelled: "Cancelled.",
};

function changed(data) {
  line.textContent = words[data.state] || data.state;
  announce(line.textContent);
  note(data.at, data.error ? `${data.state}: ${data.error.message}` : data.cause === "crash" ? "the runner died; trying again" : data.state);
  waiting = data.state === "queued";
  if (data.state === "queued") for (const item of stages.values()) item.classList.remove("now", "done");
  badge.textContent = data.state;
  if (["stopping", "failed", "cancelled"].includes(data.state)) stages.get(current)?.classList.add("stopped");
  if (data.state === "stopping") { cancel.disabled = true; }
  if (["succeeded", "rejected", "failed", "cancelled"].includes(data.state)) {
    bar.value = 1;
    cancel.disabled = true;
    source.close();
    setTimeout(() => location.reload(), 900); // long enough to see that the last stage is done
  }
}

const source = new EventSource(`${path}/events`);
function on(type, act) {
  source.addEventListener(type, (event) => {
    const seq = Number(event.lastEventId);
    if (seq && seq <= last) return; // replayed after a reconnect
    last = seq || last;
    act(JSON.parse(event.data));
  });
}
on("state", changed);
on("progress", progress);
on("log", (data) => note(data.at, data.message || ""));

source.addEventListener("error", async () => {
  if (source.readyState !== EventSource.CLOSED) return;
  // 204: the end was sent before. Anything else: look once, then say so.
  try {
    const found = await call("GET", path);
    if (!["queued", "running", "stopping"].includes(found.state)) location.reload();
    else setTimeout(() => location.reload(), 3000);
  } catch (error) { showError("live-error", error); }
});

// While the job waits, its place in the queue; nothing is asked in a hidden tab.
async function place() {
  if (!waiting || source.readyState === EventSource.CLOSED) return;
  if (!document.hidden) {
    const found = await call("GET", path).catch(() => ({}));
    if (waiting && found.queue) {
      const about = found.queue.estimate_seconds ? `, about ${seconds(found.queue.estimate_seconds)}` : "";
      line.textContent = `Waiting: number ${found.queue.position} in the queue${about}.`;
    }
  }
  setTimeout(place, 3000);
}
if (waiting) place();

cancel.addEventListener("click", async () => {
  cancel.disabled = true;
  try { await call("POST", `${path}:cancel`); } catch (error) { cancel.disabled = false; showError("live-error", error); }
});
