// Prints the bundle size of the whole SDK. Fails if it exceeds the size in the README.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const { outputFiles } = await build({
  entryPoints: [`${root}dist/index.js`],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  write: false,
});
const { contents } = outputFiles[0];
const kib = (bytes) => bytes / 1024;
const [minified, gzipped] = [kib(contents.length), kib(gzipSync(contents, { level: 9 }).length)];
console.log(`bundle: ${minified.toFixed(1)} KiB minified, ${gzipped.toFixed(1)} KiB gzipped`);

const said = /at most ([\d.]+) KiB minified, ([\d.]+) KiB gzipped/.exec(readFileSync(`${root}README.md`, "utf8").replace(/\s+/g, " "));
if (!said || minified > Number(said[1]) || gzipped > Number(said[2])) {
  console.error("The bundle exceeds the size in the README. Update “at most … KiB minified, … KiB gzipped” there.");
  process.exitCode = 1;
}
