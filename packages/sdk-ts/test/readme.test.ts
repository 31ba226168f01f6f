/** The examples of the README: their types are right, and they run against a store as they stand there. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import ts from "typescript";
import { afterAll, describe, expect, test } from "vitest";
import { API_KEY, BASE_URL, MISSING } from "./store.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** In the package, so that they find it by its name, as it is shipped. */
const DIRECTORY = mkdtempSync(`${ROOT}test/.readme-`);
const README = readFileSync(`${ROOT}README.md`, "utf8");
const EXAMPLES = examples();

afterAll(() => rmSync(DIRECTORY, { recursive: true }));

/** Each with the heading that it stands under. */
function examples(): { title: string; source: string }[] {
  const found: { title: string; source: string }[] = [];
  let heading = "";
  for (const [, title, source] of README.matchAll(/^## (.+)$|^```ts\n([\s\S]+?)^```$/gm)) {
    if (title !== undefined) heading = title;
    else if (source !== undefined) found.push({ title: `${heading} ${found.length + 1}`, source });
  }
  return found;
}

function files(): string[] {
  return EXAMPLES.map(({ source }, index) => {
    const path = `${DIRECTORY}/example${index}.mts`;
    writeFileSync(path, source);
    return path;
  });
}

test("every section with something to call has an example", () => {
  expect(EXAMPLES.map(({ title }) => title.replace(/ \d+$/, ""))).toEqual([
    "Instrument a pipeline",
    "Instrument a pipeline",
    "Record what you have",
    "Ask",
    "Export",
    "Delete",
    "Errors",
  ]);
});

test("the types of every example are right", () => {
  const { config } = ts.readConfigFile(`${ROOT}tsconfig.json`, ts.sys.readFile) as { config: { compilerOptions: object } };
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT);
  const program = ts.createProgram(files(), options);
  const problems = ts.getPreEmitDiagnostics(program).map(({ messageText, file }) => {
    return `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`;
  });
  expect(problems).toEqual([]);
});

describe.skipIf(MISSING)(`against a store${MISSING}`, () => {
  test.sequential.each(EXAMPLES)("the example runs: $title", async ({ title, source }) => {
    const path = `${DIRECTORY}/${title.replaceAll(" ", "-")}.mjs`;
    const { outputText } = ts.transpileModule(source, {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
    });
    writeFileSync(path, outputText);
    const env = { ...process.env, TRAJECTORY_BASE_URL: BASE_URL, TRAJECTORY_API_KEY: API_KEY };
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [path], { env, cwd: DIRECTORY });
    expect(stderr).toBe("");
    expect(stdout).toMatch(SHOWN[title.replace(/ \d+$/, "")]!);
  });
});

/** What the examples show. */
const SHOWN: Record<string, RegExp> = {
  "Instrument a pipeline": /^done$|^true 1$/m,
  "Record what you have": /^[\da-f-]{36} 2 1 It cannot be written as JSON: RangeError: NaN is not a number in JSON$/m,
  Ask: /^\d+ \d+$/m,
  Export: /count: \d+,\s+sha256: '[\da-f]{64}',\s+cursor: /m,
  Delete: /^true\n\d+ \d+ false$/m,
  Errors: /^400 invalid_parameter limit [\da-f-]{36}$/m,
};
