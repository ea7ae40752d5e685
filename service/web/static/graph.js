// Both graphs side by side, row by row. Only the rows in sight are drawn, so ten thousand nodes scroll like ten.
import { announce, call, element, svg } from "./util.js";
import { crossing, lanesOf, readersOf } from "./lanes.js";
import { Detail } from "./graph_detail.js";

const ROW = 34;
const LANE = 11;
const MOST_LANES = 9;
const MARGIN = 6;

const LEGEND = [
  ["folded", "batch norm, folded away"], ["took", "took a batch norm"], ["kept", "batch norm, kept"],
  ["gone", "no longer there"], ["new", "added"],
];

// Names differ at their ends; their beginnings are the scopes that all of them share.
function ending(name, room) { return name.length > room ? `…${name.slice(1 - room)}` : name; }

class GraphView {
  constructor(place, map, norms) {
    this.place = place;
    this.map = map;
    this.rows = map.rows;
    this.sides = [map.before, map.after].map((side, which) => this.prepare(side, which));
    this.sites = this.mark(map.sites, norms);
    this.visible = this.rows.map((_, row) => row);
    this.chosen = -1;
    this.query = "";
    this.build();
    this.detail = new Detail(this);
    this.draw();
  }

  prepare(side, which) {
    const rowOf = new Int32Array(side.names.length);
    this.rows.forEach((pair, row) => { if (pair[which] >= 0) rowOf[pair[which]] = row; });
    const lanes = lanesOf(side, rowOf);
    const gutter = Math.min(lanes.width, MOST_LANES) * LANE + MARGIN;
    return { ...side, which, rowOf, lanes, gutter, readers: readersOf(side), state: new Array(side.names.length).fill(""), site: new Map() };
  }

  // What became of each node, from the sites; a node without a partner was removed or added by the clean-up.
  mark(sites, norms) {
    const [before, after] = this.sides;
    for (const [left, right] of this.rows) {
      if (right < 0) before.state[left] = "gone";
      if (left < 0) after.state[right] = "new";
    }
    const known = new Map(norms.map((norm) => [norm.name, norm]));
    return sites.map((site) => {
      const norm = known.get(site.name) || {};
      const folded = norm.decision === "folded";
      const full = { ...site, norm, folded };
      for (const node of site.before) { before.state[node] = folded ? "folded" : "kept"; before.site.set(node, full); }
      for (const node of site.after) {
        after.state[node] = folded ? "took" : "kept";
        if (!after.site.has(node)) after.site.set(node, full);
        const twin = this.rows[after.rowOf[node]][0];
        if (folded && twin >= 0 && !before.site.has(twin)) before.site.set(twin, full);
      }
      return full;
    });
  }

  build() {
    const search = element("input", { type: "search", id: "graph-search", placeholder: "name or operator", spellcheck: "false" });
    const only = element("input", { type: "checkbox", id: "graph-only" });
    const next = element("button", { type: "button", class: "small", id: "graph-next" }, "Next fold");
    const previous = element("button", { type: "button", class: "small" }, "Previous fold");
    const count = element("span", { class: "faint", id: "graph-count" }, `${this.rows.length.toLocaleString()} rows`);
    const onlyLabel = element("span", { class: "check" }, only, element("label", { for: "graph-only" }, "only what changed"));
    const tools = element("div", { class: "graph-tools" }, element("label", { for: "graph-search" }, "Find"), search, previous, next, onlyLabel, count);
    const legend = element("ul", { class: "graph-legend" }, ...LEGEND.map(([name, words]) => element("li", {}, element("i", { class: name }), words)));
    const heads = element("div", { class: "graph-heads" }, element("span", {}, "Before"), element("span", {}, "After"));
    this.scroll = element("div", { class: "graph-scroll", tabindex: "0", role: "listbox", "aria-label": "Nodes before and after" });
    this.space = element("div", { class: "graph-space" });
    this.picture = svg("svg", { role: "none" });
    this.scroll.append(this.space, this.picture);
    this.panel = element("div", { class: "graph-detail", "aria-live": "polite", role: "region", "aria-label": "Chosen node", tabindex: "0" });
    const frame = element("div", { class: "graph-frame" }, heads, this.scroll);
    this.place.replaceChildren(tools, legend, element("div", { class: "graph-body" }, frame, this.panel));
    this.scroll.addEventListener("scroll", () => this.soon(), { passive: true });
    this.scroll.addEventListener("keydown", (event) => this.key(event));
    this.scroll.addEventListener("click", (event) => {
      const row = event.target.closest("[data-row]");
      if (row) this.choose(Number(row.dataset.row), false);
    });
    new ResizeObserver(() => this.soon()).observe(this.scroll);
    search.addEventListener("input", () => this.find(search.value, 1, true));
    search.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); this.find(search.value, event.shiftKey ? -1 : 1, false); } });
    only.addEventListener("change", () => this.filter(only.checked, count));
    next.addEventListener("click", () => this.step(1));
    previous.addEventListener("click", () => this.step(-1));
  }

  soon() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.draw(); });
  }

  draw() {
    const tall = this.visible.length * ROW;
    this.space.setAttribute("data-rows", this.visible.length);
    const top = Math.max(0, Math.floor(this.scroll.scrollTop / ROW) - 2);
    const bottom = Math.min(this.visible.length - 1, Math.ceil((this.scroll.scrollTop + this.scroll.clientHeight) / ROW) + 2);
    const wide = Math.max(280, this.scroll.clientWidth);
    this.half = wide / 2;
    // One picture as high as all rows: its coordinates are the rows', only what is in sight has elements.
    this.picture.setAttribute("height", tall);
    this.picture.setAttribute("width", wide);
    const parts = [];
    for (const side of this.sides) if (this.visible.length === this.rows.length) parts.push(...this.lines(side, top, bottom));
    parts.push(...this.links(top, bottom));
    for (let at = top; at <= bottom; at += 1) parts.push(this.row(at));
    this.picture.replaceChildren(...parts);
    if (this.chosen >= 0) this.scroll.setAttribute("aria-activedescendant", `graph-row-${this.chosen}`);
  }

  x(side, node) { return side.which * this.half + MARGIN + Math.min(side.lanes.lane[node], MOST_LANES - 1) * LANE + LANE / 2; }

  y(row) { return row * ROW + ROW / 2; }

  lines(side, top, bottom) {
    const parts = [];
    const hot = this.chosen >= 0 ? this.rows[this.chosen][side.which] : -1;
    for (const node of crossing(side.lanes, top, bottom)) {
      const x = this.x(side, node);
      const start = side.rowOf[node];
      let end = this.y(start);
      let path = "";
      for (const reader of side.readers[node]) {
        const row = side.rowOf[reader];
        const to = this.x(side, reader);
        const y = this.y(row);
        if (to === x) { end = Math.max(end, y); continue; }
        end = Math.max(end, y - ROW);
        if (row >= top - 1 && row <= bottom + 1) path += `M${x} ${y - ROW}C${x} ${y - ROW / 3} ${to} ${y - ROW / 1.5} ${to} ${y}`;
      }
      // Only the part in sight: a value that lives for ten thousand rows is still one short line.
      const from = Math.max(this.y(start), this.y(top - 1));
      const until = Math.min(end, this.y(bottom + 1));
      if (until > from) path += `M${x} ${from}V${until}`;
      if (path) parts.push(svg("path", { class: node === hot || side.readers[node].includes(hot) ? "g-lane hot" : "g-lane", d: path }));
    }
    return parts;
  }

  // From a folded batch norm to the node that took it.
  links(top, bottom) {
    if (this.visible.length !== this.rows.length) return [];
    const [before, after] = this.sides;
    const parts = [];
    for (let row = top; row <= bottom; row += 1) {
      const node = this.rows[row][0];
      const site = node >= 0 && before.state[node] === "folded" ? before.site.get(node) : null;
      if (!site || site.before.at(-1) !== node) continue;
      for (const target of site.after) {
        const goal = after.rowOf[target];
        if (Math.abs(goal - row) > 40) continue;
        const [x, y] = [this.half - MARGIN, this.y(row)];
        const [to, end] = [this.half + after.gutter, this.y(goal)];
        parts.push(svg("path", { class: "g-link", d: `M${x} ${y}C${x + 24} ${y} ${to - 24} ${end} ${to} ${end}` }));
      }
    }
    return parts;
  }

  row(at) {
    const row = this.visible[at];
    const pair = this.rows[row];
    const group = svg("g", { class: row === this.chosen ? "g-row chosen" : "g-row", role: "option", id: `graph-row-${row}`, "data-row": row,
      "aria-selected": String(row === this.chosen), "aria-setsize": this.visible.length, "aria-posinset": at + 1, "aria-label": this.words(row) });
    group.append(svg("rect", { x: 0, y: at * ROW, width: this.half * 2, height: ROW, fill: "transparent" }));
    for (const side of this.sides) if (pair[side.which] >= 0) group.append(this.box(side, pair[side.which], at));
    return group;
  }

  box(side, node, at) {
    const left = side.which * this.half + side.gutter + MARGIN;
    const width = Math.max(40, this.half - side.gutter - 3 * MARGIN);
    const y = at * ROW + 3;
    const op = this.map.op_types[side.ops[node]];
    const wide = Math.min(width - 14, 14 + op.length * 7.4);
    const inner = svg("svg", { x: left, y, width, height: ROW - 6 });
    inner.append(svg("text", { class: "g-op", x: 8, y: 18 }, op));
    const room = Math.floor((width - wide - 14) / 6.7);
    if (room > 4) inner.append(svg("text", { class: "g-name", x: wide + 6, y: 18 }, ending(side.names[node], room)));
    const group = svg("g", { class: `g-row ${side.state[node]}${this.rows[this.chosen]?.[side.which] === node ? " chosen" : ""}` });
    if (this.visible.length === this.rows.length) group.append(svg("circle", { class: "g-dot", cx: this.x(side, node), cy: at * ROW + ROW / 2, r: 4 }));
    group.append(svg("rect", { class: "g-box", x: left, y, width, height: ROW - 6, rx: 6 }), inner);
    return group;
  }

  words(row) {
    const names = ["before", "after"];
    return this.rows[row].map((node, which) => {
      if (node < 0) return `nothing ${names[which]}`;
      const side = this.sides[which];
      const state = LEGEND.find(([name]) => name === side.state[node]);
      return `${names[which]}: ${this.map.op_types[side.ops[node]]} ${side.names[node]}${state ? `, ${state[1]}` : ""}`;
    }).join("; ");
  }

  place_of(row) { return this.visible.length === this.rows.length ? row : this.visible.indexOf(row); }

  choose(row, follow = true) {
    if (row < 0 || row >= this.rows.length) return;
    if (this.place_of(row) < 0) this.visible = this.rows.map((_, each) => each);
    this.chosen = row;
    const y = this.place_of(row) * ROW;
    if (follow || y < this.scroll.scrollTop || y + ROW > this.scroll.scrollTop + this.scroll.clientHeight) {
      this.scroll.scrollTop = Math.max(0, y - this.scroll.clientHeight / 2);
    }
    this.draw();
    this.detail.show(row);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.scroll.clientHeight / ROW) - 1);
    const at = this.chosen < 0 ? -1 : this.place_of(this.chosen);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.visible.length - 1 };
    if (event.key === "n") this.step(1);
    else if (event.key === "p") this.step(-1);
    else if (event.key in moves) {
      const to = Math.min(this.visible.length - 1, Math.max(0, moves[event.key]));
      this.choose(this.visible[to], Math.abs(to - at) > 1);
    } else return;
    event.preventDefault();
  }

  isFold(row) {
    const [node] = this.rows[row];
    // A batch norm may be many nodes: the step goes to the last of them.
    return node >= 0 && ["folded", "kept"].includes(this.sides[0].state[node]) && this.sides[0].site.get(node).before.at(-1) === node;
  }

  step(direction) { this.seek(direction, (row) => this.isFold(row), this.chosen + direction); }

  find(words, direction, here) {
    this.query = words.trim().toLowerCase();
    if (!this.query) return;
    const fits = (row) => this.rows[row].some((node, which) => node >= 0 && (this.sides[which].names[node].toLowerCase().includes(this.query)
      || this.map.op_types[this.sides[which].ops[node]].toLowerCase().includes(this.query)));
    this.seek(direction, fits, here ? Math.max(0, this.chosen) : this.chosen + direction);
  }

  seek(direction, fits, from) {
    const count = this.rows.length;
    for (let step = 0; step < count; step += 1) {
      const row = (((from + step * direction) % count) + count) % count;
      if (fits(row)) { this.choose(row); return; }
    }
    announce("Nothing found");
  }

  filter(on, count) {
    const changed = (row) => this.rows[row].some((node, which) => node < 0 || this.sides[which].state[node]);
    this.visible = this.rows.map((_, row) => row).filter((row) => !on || changed(row));
    count.textContent = `${this.visible.length.toLocaleString()} rows`;
    this.scroll.scrollTop = 0;
    this.draw();
  }
}

async function start(place) {
  try {
    const report = await call("GET", `/jobs/${encodeURIComponent(place.dataset.job)}/graph.json`);
    if (!report.graph_map) {
      place.replaceChildren(element("p", { class: "empty" }, "The graph is too large to draw here, or the report is older than this page. Netron opens the artifact."));
      return;
    }
    place.view = new GraphView(place, report.graph_map, report.batch_norms);
  } catch (error) {
    place.replaceChildren(element("p", { class: "notice fail" }, error.message));
  }
}

const place = document.getElementById("graph-view");
if (place) {
  // Fetched when it comes near the window: people who only want the verdict don't pay for it.
  const watch = new IntersectionObserver((seen) => {
    if (!seen.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    start(place);
  }, { rootMargin: "600px" });
  watch.observe(place);
}
