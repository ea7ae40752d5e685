// The panel beside the graphs: the chosen nodes, their neighbours, and the affine of their batch norm.
import { announce, element } from "./util.js";

const figure = (value) => (typeof value === "number" ? String(Number(value.toPrecision(5))) : String(value));

export class Detail {
  constructor(view) {
    this.view = view;
    view.panel.append(element("p", { class: "faint" }, "Choose a node: by click, or with the arrow keys. “n” and “p” go to the next and the previous batch norm."));
  }

  show(row) {
    const parts = [];
    this.view.rows[row].forEach((node, which) => { if (node >= 0) parts.push(...this.node(this.view.sides[which], node)); });
    const site = this.siteOf(row);
    if (site) parts.push(...this.affine(site));
    this.view.panel.replaceChildren(...parts);
    announce(this.view.words(row));
  }

  siteOf(row) {
    return this.view.rows[row].map((node, which) => this.view.sides[which].site.get(node)).find(Boolean);
  }

  node(side, node) {
    const facts = element("dl", {});
    const add = (term, ...what) => facts.append(element("dt", {}, term), element("dd", {}, ...what));
    add("Name", element("code", {}, side.names[node] || "(none)"));
    if (side.shapes[node]) add("Shape", side.shapes[node]);
    add("Reads", ...this.jumps(side, side.inputs[node]));
    add("Read by", ...this.jumps(side, side.readers[node]));
    const op = this.view.map.op_types[side.ops[node]];
    const box = this.view.shown === "list" ? null : this.view.layers.boxOf(side.which, side.rowOf[node]);
    if (box) facts.prepend(element("dt", {}, "Box"), element("dd", {}, `${box[1]}, ${box[0]} nodes`));
    return [element("h3", {}, `${this.view.titles[side.which]}: ${op}`), facts];
  }

  jumps(side, nodes) {
    if (!nodes.length) return ["–"];
    const shown = nodes.slice(0, 12).map((node) => {
      const button = element("button", { type: "button", class: "small" }, side.names[node] || this.view.map.op_types[side.ops[node]]);
      button.addEventListener("click", () => this.view.choose(side.rowOf[node]));
      return button;
    });
    return nodes.length > 12 ? [...shown, ` and ${nodes.length - 12} more`] : shown;
  }

  affine(site) {
    const parts = [element("h3", {}, "Its affine: y = scale × x + shift")];
    const facts = element("dl", {});
    const add = (term, ...what) => facts.append(element("dt", {}, term), element("dd", {}, ...what));
    add("Batch norm", element("code", {}, site.name));
    add("Decision", site.folded ? `folded ${(site.norm.direction || "").replaceAll("_", " ")}` : `kept: ${(site.norm.reason || "").replaceAll("_", " ")}`);
    if (site.norm.into?.length) add("Into", ...site.norm.into.map((name) => element("code", {}, `${name} `)));
    if (site.norm.epsilon !== null && site.norm.epsilon !== undefined) add("Epsilon", figure(site.norm.epsilon));
    if (site.norm.certificate) add("Certificate", site.norm.certificate.holds ? "holds" : "does not hold");
    parts.push(facts);
    if (!site.scale.length) return [...parts, element("p", { class: "faint" }, "It could not be written as an affine.")];
    const body = element("tbody", {});
    site.scale.forEach((scale, channel) => body.append(element("tr", {}, element("th", { scope: "row" }, String(channel)), element("td", { class: "num" }, figure(scale)), element("td", { class: "num" }, figure(site.shift[channel])))));
    const head = element("thead", {}, element("tr", {}, ...["Channel", "Scale", "Shift"].map((words) => element("th", { scope: "col" }, words))));
    parts.push(element("table", {}, head, body));
    const more = (site.norm.channels || 0) - site.scale.length;
    if (more > 0 && site.scale.length > 1) parts.push(element("p", { class: "faint" }, `and ${more} more channels`));
    return parts;
  }
}
