// The graphs as a list of rows, with lanes for the values beside them.
import { svg } from "./util.js";
import { crossing, lanesOf } from "./lanes.js";
import { ending, wordsOf } from "./graph_model.js";

const ROW = 34;
const LANE = 11;
const MOST_LANES = 9;
const MARGIN = 6;

export class List {
  constructor(view) {
    this.view = view;
    this.rows = view.model.rows;
    this.sides = view.model.sides.map((side) => {
      const lanes = lanesOf(side, side.rowOf);
      return { ...side, lanes, gutter: Math.min(lanes.width, MOST_LANES) * LANE + MARGIN };
    });
  }

  get whole() { return this.view.visible.length === this.rows.length; }

  height() { return this.view.visible.length * ROW; }

  width() { return 0; }

  reach(row) { const y = this.place(row) * ROW; return { top: y, bottom: y + ROW, left: 0, right: 0 }; }

  place(row) { return this.whole ? row : this.view.visible.indexOf(row); }

  draw(frame) {
    const top = Math.max(0, Math.floor(frame.top / ROW) - 2);
    const bottom = Math.min(this.view.visible.length - 1, Math.ceil((frame.top + frame.height) / ROW) + 2);
    this.half = Math.max(280, frame.width) / 2;
    const parts = [];
    if (this.whole) for (const side of this.sides) parts.push(...this.lines(side, top, bottom));
    if (this.whole) parts.push(...this.links(top, bottom));
    for (let at = top; at <= bottom; at += 1) parts.push(this.row(at));
    return [svg("g", { transform: `translate(0 ${-frame.top})` }, ...parts)];
  }

  x(side, node) { return side.which * this.half + MARGIN + Math.min(side.lanes.lane[node], MOST_LANES - 1) * LANE + LANE / 2; }

  y(row) { return row * ROW + ROW / 2; }

  lines(side, top, bottom) {
    const parts = [];
    const hot = this.view.chosen >= 0 ? this.rows[this.view.chosen][side.which] : -1;
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
    const row = this.view.visible[at];
    const pair = this.rows[row];
    const group = svg("g", this.view.option(row, this.view.visible.length, at + 1));
    group.append(svg("rect", { x: 0, y: at * ROW, width: this.half * 2, height: ROW, fill: "transparent" }));
    for (const side of this.sides) if (pair[side.which] >= 0) group.append(this.box(side, pair[side.which], at));
    return group;
  }

  box(side, node, at) {
    const left = side.which * this.half + side.gutter + MARGIN;
    const width = Math.max(40, this.half - side.gutter - 3 * MARGIN);
    const y = at * ROW + 3;
    const op = this.view.model.types[side.ops[node]];
    const wide = Math.min(width - 14, 14 + op.length * 7.4);
    const inner = svg("svg", { x: left, y, width, height: ROW - 6 });
    inner.append(svg("text", { class: "g-op", x: 8, y: 18 }, op));
    const room = Math.floor((width - wide - 14) / 6.7);
    if (room > 4) inner.append(svg("text", { class: "g-name", x: wide + 6, y: 18 }, ending(side.names[node], room)));
    const group = svg("g", { class: `g-row ${side.state[node]}${this.rows[this.view.chosen]?.[side.which] === node ? " chosen" : ""}` });
    group.append(svg("title", {}, wordsOf(this.view.model, side.rowOf[node])));
    if (this.whole) group.append(svg("circle", { class: "g-dot", cx: this.x(side, node), cy: at * ROW + ROW / 2, r: 4 }));
    group.append(svg("rect", { class: "g-box", x: left, y, width, height: ROW - 6, rx: 6 }), inner);
    return group;
  }

  // Where a key leads: the list goes row by row.
  next(key, row, page) {
    const at = row < 0 ? -1 : this.place(row);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: Infinity };
    if (!(key in moves)) return -1;
    return this.view.visible[Math.min(this.view.visible.length - 1, Math.max(0, moves[key]))];
  }

  get step() { return ROW; }
}
