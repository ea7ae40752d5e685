// Both graphs side by side, as graphs or as lists. Only what is in sight is drawn, so ten thousand nodes scroll like ten.
import { announce, call, element, svg } from "./util.js";
import { Detail } from "./graph_detail.js";
import { LEGEND, modelOf, wordsOf } from "./graph_model.js";
import { Layers } from "./graph_layers.js";
import { List } from "./graph_list.js";

const SHOWN = [["both", "Both graphs"], ["before", "Graph before"], ["after", "Graph after"], ["list", "List"]];
const NAMED = { before: 0, after: 1 };
const PANES = { both: [0, 1], before: [0], after: [1], list: [0, 1] };

class GraphView {
  constructor(place, found) {
    this.place = place;
    this.titles = [place.dataset.left || "Before", place.dataset.right || "After"];
    this.map = found.graph_map;
    this.model = modelOf(found.graph_map, found.batch_norms);
    this.rows = this.model.rows;
    this.sides = this.model.sides;
    this.visible = this.rows.map((_, row) => row);
    this.chosen = -1;
    this.query = "";
    this.partners = new Set();
    this.build();
    this.detail = new Detail(this);
    this.list = new List(this);
    this.layers = new Layers(this, found.layout);
    this.look(matchMedia("(max-width: 40rem)").matches ? "before" : "both");
    this.overview();
  }

  get painter() { return this.shown === "list" ? this.list : this.layers; }

  get panes() { return PANES[this.shown]; }

  build() {
    const button = (id, words, act, extra = {}) => {
      const made = element("button", { type: "button", class: "small", id, ...extra }, words);
      made.addEventListener("click", act);
      return made;
    };
    const search = element("input", { type: "search", id: "graph-search", placeholder: "name or operator", spellcheck: "false" });
    this.only = element("input", { type: "checkbox", id: "graph-only" });
    this.count = element("span", { class: "faint", id: "graph-count" });
    this.select = element("select", { id: "graph-shown" }, ...SHOWN.map(([name, words]) => element("option", { value: name }, this.place.dataset.left && name in NAMED ? this.titles[NAMED[name]] : words)));
    const zoom = (by) => () => this.magnify(by);
    this.zooms = element("span", { class: "graph-zooms", role: "group", "aria-label": "Size" },
      button("graph-smaller", "−", zoom(0.8), { "aria-label": "Smaller" }), button("graph-fit", "Fit", zoom(0)), button("graph-larger", "+", zoom(1.25), { "aria-label": "Larger" }));
    const tools = element("div", { class: "graph-tools" }, element("label", { for: "graph-search" }, "Find"), search,
      button("graph-previous", "Previous fold", () => this.step(-1)), button("graph-next", "Next fold", () => this.step(1)),
      element("label", { for: "graph-shown" }, "Show"), this.select, this.zooms,
      element("span", { class: "check" }, this.only, element("label", { for: "graph-only" }, "only what changed")), this.count);
    const legend = element("ul", { class: "graph-legend" }, ...LEGEND.map(([name, words]) => element("li", {}, element("i", { class: name }), words)));
    this.heads = element("div", { class: "graph-heads" });
    this.scroll = element("div", { class: "graph-scroll", tabindex: "0", role: "listbox", "aria-label": "Nodes before and after" });
    this.picture = svg("svg", { role: "none" });
    this.space = element("div", { class: "graph-space", role: "none" }, this.picture);
    this.scroll.append(this.space);
    this.strip = svg("svg", { class: "graph-strip", role: "img", "aria-label": "Where batch norms were, from top to bottom", preserveAspectRatio: "none" });
    this.panel = element("div", { class: "graph-detail", "aria-live": "polite", role: "region", "aria-label": "Chosen node", tabindex: "0" });
    const frame = element("div", { class: "graph-frame" }, this.heads, element("div", { class: "graph-window" }, this.scroll, this.strip));
    this.place.replaceChildren(tools, legend, element("div", { class: "graph-body" }, frame, this.panel));
    this.listen(search);
  }

  listen(search) {
    this.scroll.addEventListener("scroll", () => this.soon(), { passive: true });
    this.scroll.addEventListener("keydown", (event) => this.key(event));
    this.scroll.addEventListener("click", (event) => {
      const row = event.target.closest("[data-row]");
      if (row) this.choose(Number(row.dataset.row), false);
    });
    this.strip.addEventListener("click", (event) => {
      const box = this.strip.getBoundingClientRect();
      this.scroll.scrollTop = (this.painter.height() * (event.clientY - box.top)) / box.height - this.scroll.clientHeight / 2;
    });
    new ResizeObserver(() => { this.measure(); this.soon(); }).observe(this.scroll);
    search.addEventListener("input", () => this.find(search.value, 1, true));
    search.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); this.find(search.value, event.shiftKey ? -1 : 1, false); } });
    this.only.addEventListener("change", () => this.filter(this.only.checked));
    this.select.addEventListener("change", () => this.look(this.select.value));
  }

  // Graphs or list; the chosen row stays in sight.
  look(shown) {
    this.shown = shown;
    this.select.value = shown;
    this.zooms.hidden = shown === "list";
    this.heads.replaceChildren(...this.panes.map((which) => element("span", {}, this.titles[which])));
    this.heads.dataset.panes = this.panes.length;
    this.only.checked = this.only.checked && shown === "list";
    this.filter(this.only.checked);
    if (this.chosen >= 0 && this.shows(this.chosen)) this.choose(this.chosen);
  }

  shows(row) {
    return this.shown === "list" ? this.list.place(row) >= 0 : this.panes.some((which) => this.layers.has(which, row));
  }

  magnify(by) {
    const middle = (this.scroll.scrollTop + this.scroll.clientHeight / 2) / this.painter.height();
    this.layers.magnify(by);
    this.measure();
    this.scroll.scrollTop = middle * this.painter.height() - this.scroll.clientHeight / 2;
    this.draw();
  }

  measure() {
    this.space.style.height = `${this.painter.height()}px`;
    this.space.style.width = this.painter.width() ? `${this.painter.width()}px` : "100%";
  }

  soon() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.draw(); });
  }

  // The picture is as large as the window and stays in it; what is drawn moves.
  draw() {
    const { scrollTop: top, scrollLeft: left, clientWidth: width, clientHeight: height } = this.scroll;
    this.space.setAttribute("data-rows", this.visible.length);
    this.picture.setAttribute("width", width);
    this.picture.setAttribute("height", Math.min(height, Math.max(1, this.painter.height())));
    this.picture.replaceChildren(...this.painter.draw({ top, left, width, height }));
    if (this.chosen >= 0) this.scroll.setAttribute("aria-activedescendant", `graph-row-${this.chosen}`);
  }

  // One thin picture of the whole: where batch norms were, and what became of them.
  overview() {
    const height = Math.max(1, this.layers.layers);
    this.strip.setAttribute("viewBox", `0 0 10 ${height}`);
    const marks = { folded: "", kept: "" };
    const tall = Math.max(1, height / 400);
    for (const site of this.model.sites) {
      const row = this.sides[0].rowOf[site.before.at(-1)];
      if (row !== undefined) marks[site.folded ? "folded" : "kept"] += `M0 ${this.layers.layerOf(row)}h10v${tall}h-10z`;
    }
    this.strip.replaceChildren(...Object.entries(marks).filter(([, path]) => path).map(([name, path]) => svg("path", { class: name, d: path })));
  }

  option(row, size, position) {
    return { class: row === this.chosen ? "g-row chosen" : "g-row", role: "option", id: `graph-row-${row}`, "data-row": row,
      "aria-selected": String(row === this.chosen), "aria-setsize": size, "aria-posinset": position, "aria-label": this.words(row) };
  }

  words(row) { return wordsOf(this.model, row); }

  choose(row, follow = true) {
    if (row < 0 || row >= this.rows.length) return;
    if (!this.shows(row)) {
      // It is filtered out, or only the other side has it: show all, or both.
      this.chosen = row;
      this.only.checked = false;
      this.look(this.shown === "list" ? "list" : "both");
      return;
    }
    this.chosen = row;
    this.partners = this.partnersOf(row);
    const { top, bottom, left, right } = this.painter.reach(row);
    const { clientHeight, clientWidth } = this.scroll;
    if (follow || top < this.scroll.scrollTop || bottom > this.scroll.scrollTop + clientHeight) this.scroll.scrollTop = Math.max(0, (top + bottom - clientHeight) / 2);
    const pane = clientWidth / this.panes.length;
    if (left < this.scroll.scrollLeft || right > this.scroll.scrollLeft + pane) this.scroll.scrollLeft = Math.max(0, (left + right - pane) / 2);
    this.draw();
    this.detail.show(row);
  }

  // All nodes of the chosen one's batch norm, on both sides.
  partnersOf(row) {
    const sites = this.rows[row].map((node, which) => this.sides[which].site.get(node)).filter(Boolean);
    return new Set(sites.flatMap((site) => [...site.before.map((node) => `0 ${node}`), ...site.after.map((node) => `1 ${node}`)]));
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.scroll.clientHeight / this.painter.step) - 1);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "n") this.step(1);
    else if (event.key === "p") this.step(-1);
    else if (event.key === "+" && this.shown !== "list") this.magnify(1.25);
    else if (event.key === "-" && this.shown !== "list") this.magnify(0.8);
    else {
      const row = this.painter.next(event.key, this.chosen, page);
      if (row < 0) return;
      this.choose(row, false);
    }
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
      || this.model.types[this.sides[which].ops[node]].toLowerCase().includes(this.query)));
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

  // "Only what changed" is a list: a graph with holes would be another graph.
  filter(on) {
    if (on && this.shown !== "list") { this.look("list"); return; }
    const changed = (row) => this.rows[row].some((node, which) => node < 0 || this.sides[which].state[node]);
    this.visible = this.rows.map((_, row) => row).filter((row) => !on || changed(row));
    this.count.textContent = `${this.visible.length.toLocaleString()} rows`;
    this.scroll.scrollTop = 0;
    this.measure();
    this.draw();
  }
}

const PATIENCE = 45000; // milliseconds; a busy service answers later, but then it is asked again

async function start(place) {
  place.replaceChildren(element("p", { class: "empty", role: "status" }, "Loading the graph."));
  try {
    const late = new Promise((_, fail) => { setTimeout(() => fail(new Error("The service has not sent the graph yet.")), PATIENCE); });
    const found = await Promise.race([call("GET", place.dataset.graph || `/jobs/${encodeURIComponent(place.dataset.job)}/graph.json`), late]);
    if (!found.graph_map) {
      place.replaceChildren(element("p", { class: "empty" }, "The graph is too large to draw here, or the report is older than this page. Netron opens the artifact."));
      return;
    }
    place.view = new GraphView(place, found);
  } catch (error) {
    const again = element("button", { type: "button", class: "small", id: "graph-again" }, "Try again");
    again.addEventListener("click", () => start(place));
    place.replaceChildren(element("p", { class: "notice fail" }, error.message, " ", again));
  }
}

const place = document.getElementById("graph-view");
if (place) {
  // Fetched when it comes near the window: people who only want the verdict don't pay for it.
  const watch = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    start(place);
  }, { rootMargin: "600px" });
  watch.observe(place);
}
