// A provider with one object in it: GET hello answers the greeting of the mount.
import { get as setting } from "sluice:provider/settings@1.0.0";

const KEY = "hello";
const MODIFIED = 1700000000; // seconds since 1970

// The language alone, without what browsers add to it, such as TextEncoder.
function utf8(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (c) => c.charCodeAt(0));
}

function greeting() {
  const body = utf8((setting("greeting") ?? "Hello, World!") + "\n");
  // Another tag whenever the bytes are others (FNV-1a).
  let hash = 0x811c9dc5;
  for (const byte of body) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  const info = {
    size: body.length,
    etag: hash.toString(16).padStart(8, "0"),
    modified: MODIFIED,
    attributes: [["content-type", "text/plain; charset=utf-8"]],
  };
  return { info, body };
}

// A failure is thrown; what is returned is the result.
function fail(tag, val) {
  throw { tag, val };
}

export const objects = {
  head(key) {
    return key === KEY ? greeting().info : fail("not-found");
  },

  get(key) {
    return key === KEY ? greeting() : fail("not-found");
  },

  put(key, object) {
    fail("denied");
  },

  delete(key) {
    fail("denied");
  },

  list(prefix, start, limit) {
    const { size, etag, modified } = greeting().info;
    const entries = KEY.startsWith(prefix) && KEY >= start ? [{ key: KEY, size, etag, modified }] : [];
    return { entries, more: false };
  },
};
