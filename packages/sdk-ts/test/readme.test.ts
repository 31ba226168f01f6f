/** The examples of the README. They pass the type check and run unchanged against a store. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import ts from "typescript";
import { afterAll, describe, expect, test } from "vitest";
import { API_KEY, BASE_URL, MISSING } from "./store.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Inside the package, so that the examples can import it by its name. */
const DIRECTORY = mkdtempSync(`${ROOT}test/.readme-`);
const README = readFileSync(`${ROOT}README.md`, "utf8");
const EXAMPLES = examples();

afterAll(() => rmSync(DIRECTORY, { recursive: true }));

/** Returns the examples, each with the heading of its section. */
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

test("every section about an operation has an example", () => {
  expect(EXAMPLES.map(({ title }) => title.replace(/ \d+$/, ""))).toEqual([
    "Instrument a pipeline",
    "Instrument a pipeline",
    "Decisions, fallbacks and changes",
    "Decisions, fallbacks and changes",
    "Record finished runs",
    "List and analyse",
    "Export",
    "Delete",
    "Errors",
  ]);
});

test("every example passes the type check", () => {
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
    const env = { ...process.env, TRAJSTORE_BASE_URL: BASE_URL, TRAJSTORE_API_KEY: API_KEY };
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [path], { env, cwd: DIRECTORY });
    expect(stderr).toBe("");
    expect(stdout).toMatch(SHOWN[title.replace(/ \d+$/, "")]!);
  });
});

/** The expected output of the examples. */
const SHOWN: Record<string, RegExp> = {
  "Instrument a pipeline": /^done$/m,
  "Decisions, fallbacks and changes": /^failure$|^true 1$/m,
  "Record finished runs": /^[\da-f-]{36} 2 1 The record is not serializable as JSON: RangeError: NaN is not a valid number in JSON$/m,
  "List and analyse": /^\d+ \d+$/m,
  Export: /count: \d+,\s+sha256: '[\da-f]{64}',\s+cursor: /m,
  Delete: /^true\n\d+ \d+ false$/m,
  Errors: /^400 invalid_parameter limit [\da-f-]{36}$/m,
};
