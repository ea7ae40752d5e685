// Both graphs as the page needs them: rows of nodes, who reads whom, and what became of each node.

export const LEGEND = [
  ["folded", "batch norm, folded away"], ["took", "absorbed a batch norm"], ["kept", "batch norm, kept"],
  ["gone", "no longer there"], ["new", "added"],
];

export function modelOf(map, norms) {
  const sides = [map.before, map.after].map((side, which) => prepare(map.rows, side, which));
  return { rows: map.rows, types: map.op_types, sides, sites: mark(map.rows, sides, map.sites, norms) };
}

function prepare(rows, side, which) {
  const rowOf = new Int32Array(side.names.length);
  rows.forEach((pair, row) => { if (pair[which] >= 0) rowOf[pair[which]] = row; });
  const readers = side.names.map(() => []);
  side.inputs.forEach((sources, node) => { for (const source of sources) readers[source].push(node); });
  return { ...side, which, rowOf, readers, state: new Array(side.names.length).fill(""), site: new Map() };
}

// What became of each node, from the sites; a node without a partner was removed or added by the clean-up.
function mark(rows, [before, after], sites, norms) {
  for (const [left, right] of rows) {
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
      const twin = rows[after.rowOf[node]][0];
      if (folded && twin >= 0 && !before.site.has(twin)) before.site.set(twin, full);
    }
    return full;
  });
}

// The row in words, for those who can't see it and for tooltips.
export function wordsOf(model, row) {
  const names = ["before", "after"];
  return model.rows[row].map((node, which) => {
    if (node < 0) return `nothing ${names[which]}`;
    const side = model.sides[which];
    const state = LEGEND.find(([name]) => name === side.state[node]);
    return `${names[which]}: ${model.types[side.ops[node]]} ${side.names[node]}${state ? `, ${state[1]}` : ""}`;
  }).join("; ");
}

// Names differ at their ends; their beginnings are the scopes that all of them share.
export function ending(name, room) { return name.length > room ? `…${name.slice(1 - room)}` : name; }
