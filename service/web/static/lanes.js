// Which lane each value runs in, so that a graph of any size reads like a list with lines beside it.
// A value holds a lane from its producer's row to its last reader's row; a node that is the last reader of
// its first input goes on in that input's lane, so chains are straight.

export const BLOCK = 64; // rows per bucket of the index

export function lanesOf(side, rowOf) {
  const count = side.names.length;
  const last = new Int32Array(count).fill(-1);
  for (let node = 0; node < count; node += 1) for (const source of side.inputs[node]) last[source] = Math.max(last[source], node);
  const lane = new Int32Array(count);
  const free = [];
  let used = 0;
  for (let node = 0; node < count; node += 1) {
    const ending = side.inputs[node].filter((source) => last[source] === node);
    let mine = -1;
    for (const source of ending) {
      if (mine < 0) mine = lane[source]; else free.push(lane[source]);
    }
    if (mine < 0) {
      free.sort((a, b) => b - a);
      mine = free.length ? free.pop() : used++;
    }
    lane[node] = mine;
    if (last[node] < 0) free.push(mine);
  }
  return { lane, last, width: used, blocks: blocksOf(side, rowOf, last) };
}

// For each block of rows the values whose lane crosses it.
function blocksOf(side, rowOf, last) {
  const blocks = new Map();
  for (let node = 0; node < side.names.length; node += 1) {
    const end = last[node] < 0 ? rowOf[node] : rowOf[last[node]];
    for (let block = Math.floor(rowOf[node] / BLOCK); block <= Math.floor(end / BLOCK); block += 1) {
      if (!blocks.has(block)) blocks.set(block, []);
      blocks.get(block).push(node);
    }
  }
  return blocks;
}

export function crossing(lanes, from, to) {
  const found = new Set();
  for (let block = Math.floor(from / BLOCK); block <= Math.floor(to / BLOCK); block += 1) {
    for (const node of lanes.blocks.get(block) || []) found.add(node);
  }
  return found;
}
