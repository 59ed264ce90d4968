// Builds the pages: bundles src/pages/*.ts with esbuild, fills html/*.html with the hashed names, and writes all of it,
// with gzip and brotli variants beside each asset, into the directory that pages.py serves.

import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const target = path.resolve(here, "../static");
// Built beside the target and then renamed, so that a server that starts meanwhile never sees half a bundle.
const fresh = `${target}.new`;

const pages = { index: "start", player: "live", watch: "watch", embed: "embed" };

async function bundle() {
  const result = await build({
    absWorkingDir: here,
    entryPoints: Object.values(pages).map((name) => `src/pages/${name}.ts`),
    outdir: path.join(fresh, "assets"),
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    bundle: true,
    splitting: true,
    format: "esm",
    target: ["es2020", "safari15", "firefox90", "chrome90"],
    minify: true,
    legalComments: "none",
    metafile: true,
    logLevel: "warning",
  });
  const { outputs } = result.metafile;
  const built = {};
  for (const [file, output] of Object.entries(outputs)) {
    const page = /^src\/pages\/(\w+)\.ts$/.exec(output.entryPoint ?? "")?.[1];
    if (page === undefined) continue;
    built[page] = { script: path.basename(file), style: path.basename(output.cssBundle), parts: parts(outputs, file) };
  }
  return built;
}

/** The chunks that a script needs at once: named in the page, they come in one round trip, not one after another. */
function parts(outputs, file, found = new Set()) {
  for (const { path: chunk, kind } of outputs[file].imports) {
    if (kind !== "import-statement" || found.has(chunk)) continue;
    found.add(chunk);
    parts(outputs, chunk, found);
  }
  return found;
}

async function icon() {
  const svg = await readFile(path.join(here, "html/icon.svg"));
  const name = `icon-${createHash("sha256").update(svg).digest("hex").slice(0, 8).toUpperCase()}.svg`;
  await writeFile(path.join(fresh, "assets", name), svg);
  return name;
}

async function fill(name, values) {
  let text = await readFile(path.join(here, "html", name), "utf8");
  for (const [, part] of text.matchAll(/<!-- include (\S+) -->/g)) {
    text = text.replace(`<!-- include ${part} -->`, (await fill(part, values)).trim());
  }
  return text.replace(/\{\{(\w+)\}\}/g, (_, key) => {
    if (values[key] === undefined) throw new Error(`${name} asks for {{${key}}}, which the build does not know`);
    return values[key];
  });
}

function variants(bytes) {
  const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  return { ".gz": gzipSync(bytes, { level: 9 }), ".br": brotliCompressSync(bytes, { params: quality }) };
}

await rm(fresh, { recursive: true, force: true });
await mkdir(path.join(fresh, "assets"), { recursive: true });
const built = await bundle();
const iconName = await icon();
for (const [page, source] of Object.entries(pages)) {
  const { script, style, parts: chunks } = built[source];
  const preload = [...chunks].map((chunk) => `<link rel="modulepreload" href="/assets/${path.basename(chunk)}">`).join("\n");
  await writeFile(path.join(fresh, `${page}.html`), await fill(`${page}.html`, { script, style, preload, icon: iconName }));
}
for (const directory of [fresh, path.join(fresh, "assets")]) {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(directory, entry.name);
    const bytes = await readFile(file);
    for (const [suffix, small] of Object.entries(variants(bytes))) await writeFile(file + suffix, small);
  }
}
await rm(target, { recursive: true, force: true });
await rename(fresh, target);
for (const entry of (await readdir(path.join(target, "assets"))).sort()) {
  if (/\.(br|gz)$/.test(entry)) continue;
  const size = (await readFile(path.join(target, "assets", entry))).length;
  const packed = (await readFile(path.join(target, "assets", `${entry}.br`))).length;
  console.log(`${entry.padEnd(28)} ${String(size).padStart(8)} B, ${String(packed).padStart(7)} B by brotli`);
}
