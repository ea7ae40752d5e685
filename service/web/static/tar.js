// Several files or a folder as one archive, without reading them: a Blob of headers and file slices.
// ustar, with a pax header for long or non-ASCII names. Times are zero, so equal files give equal bytes.

const BLOCK = 512;
const text = new TextEncoder();

function field(header, offset, length, value) {
  header.set(text.encode(value).subarray(0, length), offset);
}

function octal(value, length) {
  return value.toString(8).padStart(length - 1, "0") + "\0";
}

function headerOf(name, size, type) {
  const header = new Uint8Array(BLOCK);
  field(header, 0, 100, name);
  field(header, 100, 8, octal(0o644, 8));
  field(header, 108, 8, octal(0, 8));
  field(header, 116, 8, octal(0, 8));
  if (size < 8 ** 11) field(header, 124, 12, octal(size, 12));
  else {
    // Above 8 GiB: base-256, as GNU tar and Python's tarfile write it.
    new DataView(header.buffer).setBigUint64(128, BigInt(size));
    header[124] = 0x80;
  }
  field(header, 136, 12, octal(0, 12));
  field(header, 148, 8, "        ");
  field(header, 156, 1, type);
  field(header, 257, 8, "ustar\x0000");
  field(header, 148, 8, `${octal(header.reduce((sum, byte) => sum + byte, 0), 7)} `);
  return header;
}

function padding(size) {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}

function paxRecord(key, value) {
  const body = ` ${key}=${value}\n`;
  const bytes = text.encode(body).length;
  let length = bytes + 1;
  while (String(length).length + bytes !== length) length = String(length).length + bytes;
  return text.encode(`${length}${body}`);
}

// entries: [{path, file}], paths with forward slashes.
export function tarOf(entries) {
  const parts = [];
  for (const { path, file } of [...entries].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const plain = /^[\x20-\x7e]{1,99}$/.test(path);
    if (!plain) {
      const record = paxRecord("path", path);
      parts.push(headerOf("pax", record.length, "x"), record, padding(record.length));
    }
    parts.push(headerOf(plain ? path : "long-name", file.size, "0"), file, padding(file.size));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts, { type: "application/x-tar" });
}

// One file as it is; several as one archive. { blob, name }.
export function packed(entries) {
  if (entries.length === 1) return { blob: entries[0].file, name: entries[0].path.split("/").pop() };
  // A checkpoint is called by its prefix: the file “checkpoint” beside it has the same name everywhere.
  const index = entries.find(({ path }) => /\.(index|meta)$/.test(path))?.path.split("/").pop().replace(/\.(index|meta)$/, "");
  const top = entries[0].path.includes("/") ? entries[0].path.split("/")[0] : index || entries[0].path.split(".")[0];
  return { blob: tarOf(entries), name: `${top || "model"}.tar` };
}
