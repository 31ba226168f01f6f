// One step of tsc, with what an earlier build has left out of the way: a module that is gone must not be shipped.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
rmSync(`${root}dist`, { recursive: true, force: true });
execFileSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, "--project", "tsconfig.build.json"], {
  cwd: root,
  stdio: "inherit",
});
