// A resumable upload (tus 1.0): pieces by PATCH, the server's offset after every interruption, and the
// upload's address kept in this browser so that it goes on after a reload or a crash.
import { problemText } from "./util.js";

const PIECE = 32 * 1024 * 1024;
const KEPT = "bnfold-uploads";
const TUS = { "Tus-Resumable": "1.0.0" };
const PAUSES = [0.3, 1, 2, 4, 8, 15, 30];

function kept() {
  try { return JSON.parse(localStorage.getItem(KEPT) || "{}"); } catch { return {}; }
}

function keep(fingerprint, address) {
  try {
    const all = kept();
    if (address) all[fingerprint] = address; else delete all[fingerprint];
    localStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(Object.entries(all).slice(-50))));
  } catch { /* storage may be forbidden: the upload works, it just can't outlive the page */ }
}

function base64(value) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(value)));
}

class Refused extends Error {}

export class Upload {
  // events: progress(sent, total), state(words)
  constructor(endpoint, blob, name, fingerprint, events) {
    Object.assign(this, { endpoint, blob, name, fingerprint, events, paused: false, stopped: false, request: null });
  }

  // The digest of the whole, once the server has it.
  async run() {
    let address = kept()[this.fingerprint] || null;
    let failures = 0;
    for (;;) {
      try {
        if (!address) {
          address = await this.create();
          keep(this.fingerprint, address);
        }
        const digest = await this.send(address);
        keep(this.fingerprint, null);
        return digest;
      } catch (error) {
        if (this.stopped) throw error;
        if (error.gone) { address = null; keep(this.fingerprint, null); }
        if (error instanceof Refused) throw error;
        if (!this.paused && !error.gone) {
          const pause = PAUSES[Math.min(failures, PAUSES.length - 1)];
          failures += 1;
          if (failures > 12) throw error;
          this.events.state(`Interrupted. Trying again in ${pause} s.`);
          await this.sleep(pause * 1000);
        }
        await this.resumed();
      }
    }
  }

  async create() {
    const headers = { ...TUS, "Upload-Length": String(this.blob.size), "Upload-Metadata": `filename ${base64(this.name)}` };
    const answer = await fetch(this.endpoint, { method: "POST", headers });
    if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) throw new Refused(await problemText(answer));
    if (!answer.ok) throw new Error(await problemText(answer));
    return answer.headers.get("location");
  }

  async send(address) {
    let { offset, digest } = await this.ask(address);
    if (offset > 0 && offset < this.blob.size) this.events.state("Going on where it stopped.");
    while (offset < this.blob.size || !digest) {
      if (this.paused || this.stopped) throw new Error("paused");
      const answer = await this.patch(address, offset);
      offset = answer.offset;
      digest = answer.digest;
      if (offset >= this.blob.size && !digest) ({ digest } = await this.ask(address));
      this.events.progress(offset, this.blob.size);
      if (offset >= this.blob.size && !digest) throw new Refused("The service did not tell the digest of the upload.");
    }
    return digest;
  }

  async ask(address) {
    const answer = await fetch(address, { method: "HEAD", headers: TUS, cache: "no-store" });
    if (answer.status === 404 || answer.status === 410) throw Object.assign(new Error("The upload has expired."), { gone: true });
    if (!answer.ok) throw new Error(`The service answered ${answer.status}.`);
    return { offset: Number(answer.headers.get("upload-offset")), digest: digestOf((name) => answer.headers.get(name)) };
  }

  // XMLHttpRequest, because only it tells how much of a body has left.
  patch(address, offset) {
    const piece = this.blob.slice(offset, offset + PIECE);
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.request = request;
      request.open("PATCH", address);
      for (const [name, value] of Object.entries(TUS)) request.setRequestHeader(name, value);
      request.setRequestHeader("Content-Type", "application/offset+octet-stream");
      request.setRequestHeader("Upload-Offset", String(offset));
      request.upload.onprogress = (event) => this.events.progress(offset + event.loaded, this.blob.size);
      request.onerror = () => reject(new Error("The connection was lost."));
      request.onabort = () => reject(new Error("paused"));
      request.onload = () => {
        if (request.status === 404 || request.status === 410) return reject(Object.assign(new Error("The upload has expired."), { gone: true }));
        if ([400, 401, 403, 413, 415, 422].includes(request.status)) {
          let words = `The service answered ${request.status}.`;
          try { const problem = JSON.parse(request.responseText); words = [problem.detail, problem.hint].filter(Boolean).join(" "); } catch { /* not JSON */ }
          return reject(new Refused(words));
        }
        if (request.status >= 300) return reject(new Error(`The service answered ${request.status}.`));
        return resolve({ offset: Number(request.getResponseHeader("upload-offset")), digest: digestOf((name) => request.getResponseHeader(name)) });
      };
      request.send(piece);
    });
  }

  pause() { this.paused = true; this.request?.abort(); this.events.state("Paused."); }

  resume() { this.paused = false; this.wake?.(); }

  async stop() {
    this.stopped = true;
    this.request?.abort();
    this.wake?.();
    const address = kept()[this.fingerprint];
    keep(this.fingerprint, null);
    if (address) await fetch(address, { method: "DELETE", headers: TUS }).catch(() => {});
  }

  sleep(milliseconds) {
    return new Promise((resolve) => { this.wake = resolve; setTimeout(resolve, milliseconds); });
  }

  async resumed() {
    while (this.paused && !this.stopped) await this.sleep(60000);
  }
}

function digestOf(header) {
  const plain = header("bnfold-digest") || header("upload-digest");
  if (plain) return plain;
  const match = /sha-256=:([A-Za-z0-9+/=]+):/.exec(header("repr-digest") || "");
  if (!match) return null;
  return `sha256:${[...atob(match[1])].map((c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("")}`;
}
