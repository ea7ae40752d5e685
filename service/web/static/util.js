// Shared by the pages' modules. Text from models and from the service only ever becomes text nodes.

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function announce(text) {
  const place = document.getElementById("announcer");
  if (place) place.textContent = text;
}

export function size(count) {
  // Decimal units, as everywhere in bnfold (folding.report.figures).
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 999.95 && at < units.length - 1) { count /= 1000; at += 1; }
  return `${count.toFixed(at ? 1 : 0)} ${units[at]}`;
}

export function seconds(value) {
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 120 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
}

// An error of the API in words: what was wrong and what to do about it.
export async function problemText(answer) {
  return problemWords(await problemOf(answer), answer.status, answer.headers.get("retry-after"));
}

async function problemOf(answer) {
  try { return await answer.json(); } catch { return {}; /* not JSON */ }
}

export function problemWords(problem, status, after) {
  const words = [problem.detail || problem.message || problem.title || `The service answered ${status}.`];
  for (const item of problem.errors || []) words.push(`${(item.loc || []).join(".")}: ${item.msg || item.message || ""}`);
  if (problem.hint) words.push(problem.hint);
  if (status === 401) words.push("Sign in first (top right).");
  if (after) words.push(`Try again in ${seconds(Number(after))}.`);
  return words.join(" ");
}

export async function call(method, path, body, headers = {}) {
  const options = { method, headers: { accept: "application/json", ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The service does not answer. Is it running?");
  }
  if (!answer.ok) {
    const problem = await problemOf(answer);
    throw Object.assign(new Error(problemWords(problem, answer.status, answer.headers.get("retry-after"))), { status: answer.status, code: problem.code });
  }
  return answer.status === 204 ? {} : answer.json();
}

export function showError(id, error) {
  const place = document.getElementById(id);
  place.textContent = error ? error.message || String(error) : "";
  place.hidden = !error;
}
