// The graphs as graphs: boxes in layers, lines between them, both sides in the same places.
// The places come from the server (service/web/layered.py); only what is in sight is drawn.
import { svg } from "./util.js";
import { BLOCK } from "./lanes.js";
import { ending, wordsOf } from "./graph_model.js";

const LAYER = 62; // from one layer to the next
const WIDE = 146;
const HIGH = 38;
const PAD = 12;
const SMALL = 0.62; // below it names can't be read, and operators are written larger instead

export class Layers {
  constructor(view, layout) {
    this.view = view;
    this.layout = layout;
    this.rows = view.model.rows;
    this.sides = view.model.sides;
    this.layers = layout.layer.reduce((most, at) => Math.max(most, at), 0) + 1;
    this.inLayer = Array.from({ length: this.layers }, () => []);
    layout.layer.forEach((layer, box) => this.inLayer[layer].push(box));
    for (const boxes of this.inLayer) boxes.sort((a, b) => layout.x[a] - layout.x[b]);
    this.members = layout.layer.map(() => []);
    layout.box.forEach((box, row) => this.members[box].push(row));
    const far = new Set(layout.far.map(([from, to]) => `${from} ${to}`));
    const around = layout.around.map((ways) => new Map(ways.map(([from, to, ...rows]) => [`${from} ${to}`, rows])));
    this.values = this.sides.map((side, which) => this.valuesOf(side, far, around[which]));
    this.blocks = this.values.map((values) => this.blocksOf(values));
    this.zoom = 0;
  }

  // The node that stands for a box on one side: its last one there, or -1.
  nodeOf(which, box) {
    const row = this.members[box].findLast((each) => this.rows[each][which] >= 0);
    return row === undefined ? -1 : this.rows[row][which];
  }

  // For each box of a side that somebody reads: where its lines go.
  valuesOf(side, far, around) {
    const { layer, box } = this.layout;
    const values = new Map();
    const seen = new Set();
    side.readers.forEach((readers, node) => {
      const from = box[side.rowOf[node]];
      for (const reader of readers) {
        const to = box[side.rowOf[reader]];
        const key = `${from} ${to}`;
        if (from === to || seen.has(key)) continue;
        seen.add(key);
        if (!values.has(from)) values.set(from, { box: from, ends: [], ways: [], far: [], last: layer[from] });
        const value = values.get(from);
        if (far.has(key)) { value.far.push(to); continue; }
        if (around.has(key)) value.ways.push([...around.get(key), to]); else value.ends.push(to);
        value.last = Math.max(value.last, layer[to]);
      }
    });
    return values;
  }

  blocksOf(values) {
    const blocks = new Map();
    const put = (value, from, to) => {
      for (let block = Math.floor(from / BLOCK); block <= Math.floor(to / BLOCK); block += 1) {
        if (!blocks.has(block)) blocks.set(block, new Set());
        blocks.get(block).add(value);
      }
    };
    for (const value of values.values()) {
      put(value, this.layout.layer[value.box], value.last);
      for (const to of value.far) put(value, this.layout.layer[to], this.layout.layer[to]);
    }
    return blocks;
  }

  get panes() { return this.view.panes; }

  // As large as fits across; never so small that boxes are dots.
  get scale() {
    if (this.zoom) return this.zoom;
    const room = this.view.scroll.clientWidth / this.panes.length;
    return Math.min(1, Math.max(0.4, room / (this.layout.width + 2 * PAD)));
  }

  magnify(by) { this.zoom = by ? Math.min(1.5, Math.max(0.25, this.scale * by)) : 0; }

  height() { return (this.layers * LAYER + 2 * PAD) * this.scale; }

  // What a pane can't show is reached by scrolling; both panes scroll together.
  width() {
    const pane = this.view.scroll.clientWidth / this.panes.length;
    return this.view.scroll.clientWidth + Math.max(0, Math.ceil((this.layout.width + 2 * PAD) * this.scale - pane));
  }

  reach(row) {
    const box = this.layout.box[row];
    const [x, y, scale] = [this.layout.x[box] + PAD, this.y(box), this.scale];
    return { top: (y - LAYER / 2) * scale, bottom: (y + LAYER / 2) * scale, left: (x - WIDE / 2 - PAD) * scale, right: (x + WIDE / 2 + PAD) * scale };
  }

  y(box) { return this.layout.layer[box] * LAYER + LAYER / 2 + PAD; }

  draw(frame) {
    const scale = this.scale;
    const first = Math.max(0, Math.floor(frame.top / scale / LAYER) - 1);
    const last = Math.min(this.layers - 1, Math.ceil((frame.top + frame.height) / scale / LAYER) + 1);
    const pane = frame.width / this.panes.length;
    // A layout that is narrower than its pane stands in the middle of it.
    const spare = Math.max(0, (pane - (this.layout.width + 2 * PAD) * scale) / 2);
    return this.panes.flatMap((which, at) => {
      const inner = svg("g", { transform: `translate(${spare - frame.left} ${-frame.top}) scale(${scale}) translate(${PAD} 0)` });
      inner.append(...this.lines(which, first, last));
      for (let layer = first; layer <= last; layer += 1) inner.append(...this.inLayer[layer].map((box) => this.box(which, box, scale, at)).filter(Boolean));
      const window = svg("svg", { x: at * pane, y: 0, width: pane, height: frame.height }, inner);
      return at ? [window, svg("line", { class: "g-split", x1: at * pane, x2: at * pane, y1: 0, y2: frame.height })] : [window];
    });
  }

  lines(which, first, last) {
    const found = new Set();
    for (let block = Math.floor(first / BLOCK); block <= Math.floor(last / BLOCK); block += 1) {
      for (const value of this.blocks[which].get(block) || []) found.add(value);
    }
    const parts = [];
    const hot = this.hot;
    for (const value of found) {
      const lit = value.box === hot || value.ends.includes(hot) || value.ways.some((way) => way.at(-1) === hot) || value.far.includes(hot);
      const path = this.path(value, first, last, lit && value.box !== hot ? hot : -1);
      if (path.whole) parts.push(svg("path", { class: "g-edge", d: path.whole }));
      if (lit && path.lit) parts.push(svg("path", { class: "g-edge hot", d: path.lit }));
      if (path.far) parts.push(svg("path", { class: "g-edge far", d: path.far }));
    }
    return parts.sort((a, b) => a.classList.contains("hot") - b.classList.contains("hot"));
  }

  // The value's trunk from bend to bend, and from it to each reader; `only` lights the line to one reader.
  path(value, first, last, only) {
    const { layer, x, trunk } = this.layout;
    const [start, bends] = [layer[value.box], trunk[value.box] || []];
    const seen = (at) => at >= first - 1 && at <= last + 1;
    const across = (at) => (at === start ? x[value.box] : bends[at - start - 1]);
    const leave = (at) => (at * LAYER + LAYER / 2 + PAD) + (at === start ? HIGH / 2 : 0);
    const enter = (at) => at * LAYER + LAYER / 2 + PAD - HIGH / 2;
    const hop = (x0, y0, x1, y1) => (x0 === x1 ? `M${x0} ${y0}V${y1}` : `M${x0} ${y0}C${x0} ${(y0 + y1) / 2} ${x1} ${(y0 + y1) / 2} ${x1} ${y1}`);
    const way = (to) => {
      let path = "";
      const end = layer[to];
      for (let at = Math.max(start, first - 1); at < Math.min(end - 1, last + 1); at += 1) path += hop(across(at), leave(at), across(at + 1), (at + 1) * LAYER + LAYER / 2 + PAD);
      return seen(end) ? path + hop(across(end - 1), leave(end - 1), x[to], enter(end)) : path;
    };
    // Through the places of boxes that only the other side has, and between them along that side's bends.
    const through = (boxes) => {
      let [path, at, y] = ["", value.box, leave(start)];
      for (const box of boxes) {
        let from = x[at];
        for (const [index, bend] of (trunk[at] || []).slice(0, layer[box] - layer[at] - 1).entries()) {
          const middle = (layer[at] + 1 + index) * LAYER + LAYER / 2 + PAD;
          path += hop(from, y, bend, middle);
          [from, y] = [bend, middle];
        }
        path += hop(from, y, x[box], box === boxes.at(-1) ? this.y(box) - HIGH / 2 : this.y(box));
        [at, y] = [box, this.y(box)];
      }
      return path;
    };
    let whole = "";
    let lit = "";
    const longest = value.ends.reduce((most, to) => Math.max(most, layer[to]), 0);
    for (const to of value.ends) {
      // The trunk once, as far as the last reader; the others only from where they leave it.
      const full = way(to);
      if (layer[to] === longest) whole += full; else if (seen(layer[to])) whole += hop(across(layer[to] - 1), leave(layer[to] - 1), x[to], enter(layer[to]));
      if (only < 0 || only === to) lit += full;
    }
    for (const boxes of value.ways) {
      const full = through(boxes);
      whole += full;
      if (only < 0 || only === boxes.at(-1)) lit += full;
    }
    let far = "";
    if (value.far.length && seen(start)) far += `M${x[value.box]} ${leave(start)}v${(LAYER - HIGH) / 2}`;
    for (const to of value.far) if (seen(layer[to])) far += `M${x[to]} ${enter(layer[to])}v${(HIGH - LAYER) / 2}`;
    return { whole, lit, far };
  }

  layerOf(row) { return this.layout.layer[this.layout.box[row]]; }

  // What is drawn for a row, where that is more than one node: [how many, its name].
  boxOf(which, row) {
    const box = this.layout.box[row];
    const nodes = this.members[box].map((each) => this.rows[each][which]).filter((node) => node >= 0);
    return nodes.length > 1 ? [nodes.length, ...this.label(this.sides[which], this.nodeOf(which, box), nodes)] : null;
  }

  has(which, row) { return this.nodeOf(which, this.layout.box[row]) >= 0; }

  get hot() { return this.view.chosen < 0 ? -1 : this.layout.box[this.view.chosen]; }

  box(which, box, scale, at) {
    const side = this.sides[which];
    const node = this.nodeOf(which, box);
    const [left, top] = [this.layout.x[box] - WIDE / 2, this.y(box) - HIGH / 2];
    const chosen = box === this.hot;
    // Where the other side has a node and this one has none: its place stays, so that the eye keeps its own.
    if (node < 0) return chosen ? svg("rect", { class: "g-ghost", x: left, y: top, width: WIDE, height: HIGH, rx: 7 }) : null;
    const nodes = this.members[box].map((row) => this.rows[row][which]).filter((each) => each >= 0);
    const state = side.state[node] || nodes.map((each) => side.state[each]).find((each) => each && each !== "gone" && each !== "new") || "";
    const partner = !chosen && nodes.some((each) => this.view.partners.has(`${which} ${each}`));
    const row = side.rowOf[node];
    const option = at === 0 || this.nodeOf(0, box) < 0 ? this.view.option(row, this.layout.layer.length, box + 1) : { "data-row": row };
    const group = svg("g", { ...option, class: `g-row ${state}${chosen ? " chosen" : partner ? " partner" : ""}` });
    group.append(svg("title", {}, `${wordsOf(this.view.model, row)}${side.shapes[node] ? `; ${side.shapes[node]}` : ""}`));
    const [op, name] = this.label(side, node, nodes);
    const clip = svg("svg", { x: left, y: top, width: WIDE, height: HIGH });
    if (scale < SMALL) clip.append(svg("text", { class: "g-op large", x: WIDE / 2, y: HIGH / 2 + 6 }, op.length > 13 ? `${op.slice(0, 12)}…` : op));
    else clip.append(svg("text", { class: "g-op middle", x: WIDE / 2, y: 16 }, op), svg("text", { class: "g-name middle", x: WIDE / 2, y: 30 }, ending(name, 20)));
    const round = op === "input" || op === "output" ? HIGH / 2 : 7;
    group.append(svg("rect", { class: "g-box", x: left, y: top, width: WIDE, height: HIGH, rx: round }), clip);
    return group;
  }

  // A batch norm of many nodes goes by its own name; another box by its last node's.
  label(side, node, nodes) {
    const site = side.site.get(node);
    const many = nodes.length > 1;
    if (many && side.which === 0 && site && site.before.includes(node)) return ["Batch norm", site.name];
    return [this.view.model.types[side.ops[node]], side.names[node]];
  }

  // Where a key leads: down to the first reader, up to the first input, left and right within the layer.
  next(key, row, page) {
    const box = this.goal(key, row < 0 ? -1 : this.layout.box[row], page);
    return box < 0 ? -1 : this.members[box].at(-1);
  }

  goal(key, box, page) {
    if (key === "Home" || (box < 0 && ["ArrowDown", "PageDown"].includes(key))) return this.inLayer[0][0];
    if (key === "End") return this.inLayer.at(-1)[0];
    if (box < 0) return -1;
    const { layer, x } = this.layout;
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const beside = this.inLayer[layer[box]];
      return beside[Math.min(beside.length - 1, Math.max(0, beside.indexOf(box) + (key === "ArrowLeft" ? -1 : 1)))];
    }
    if (key === "ArrowDown" || key === "ArrowUp") return this.neighbour(box, key === "ArrowDown");
    const to = { PageDown: layer[box] + page, PageUp: layer[box] - page }[key];
    if (to === undefined) return -1;
    const there = this.inLayer[Math.min(this.layers - 1, Math.max(0, to))];
    return there.reduce((best, other) => (Math.abs(x[other] - x[box]) < Math.abs(x[best] - x[box]) ? other : best), there[0]);
  }

  neighbour(box, down) {
    const { layer, x } = this.layout;
    const near = new Set();
    for (const which of this.panes) {
      const side = this.sides[which];
      for (const row of this.members[box]) {
        const node = this.rows[row][which];
        if (node >= 0) for (const other of (down ? side.readers : side.inputs)[node]) near.add(this.layout.box[side.rowOf[other]]);
      }
    }
    near.delete(box);
    const cost = (other) => Math.abs(layer[other] - layer[box]) * 1e6 + Math.abs(x[other] - x[box]);
    return [...near].reduce((best, other) => (best < 0 || cost(other) < cost(best) ? other : best), -1);
  }

  get step() { return LAYER * this.scale; }
}
