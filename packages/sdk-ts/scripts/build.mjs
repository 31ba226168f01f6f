// Removes the previous build, so that deleted modules are not published, and runs tsc: ES modules, then CommonJS.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
rmSync(`${root}dist`, { recursive: true, force: true });
for (const project of ["tsconfig.build.json", "tsconfig.cjs.json"]) {
  execFileSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, "--project", project], { cwd: root, stdio: "inherit" });
}
// Without it, Node would read the files as ES modules, as the package says.
writeFileSync(`${root}dist/cjs/package.json`, '{ "type": "commonjs" }\n');
