/** The published package: documentation, exports, generated types, dependencies. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { afterAll, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const OPENAPI = `${ROOT}../../docs/openapi.json`;

function read(path: string): string {
  return readFileSync(`${ROOT}${path}`, "utf8");
}

interface Manifest {
  dependencies?: object;
  packages: Record<string, { resolved?: string; integrity?: string }>;
}

/** Yields each exported symbol, and each member of an exported class or interface. */
function* exportedSymbols(): Generator<[name: string, symbol: ts.Symbol]> {
  const program = ts.createProgram([`${ROOT}dist/index.d.ts`], {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2023.d.ts", "lib.dom.d.ts", "lib.dom.asynciterable.d.ts", "lib.esnext.disposable.d.ts"],
    types: [],
  });
  checker = program.getTypeChecker();
  const entry = checker.getSymbolAtLocation(program.getSourceFile(`${ROOT}dist/index.d.ts`)!)!;
  for (const exported of checker.getExportsOfModule(entry)) {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    yield [symbol.name, symbol];
    if (!(symbol.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface))) continue;
    for (const [name, member] of symbol.members ?? []) {
      const isHidden = name === "__constructor" || name === "__#private" || String(name).startsWith("__#");
      if (!isHidden) yield [`${symbol.name}.${name}`, member];
    }
  }
}

let checker: ts.TypeChecker;
// Once for all tests: a program with the DOM types takes a second.
let known: [name: string, symbol: ts.Symbol][] | undefined;

function symbols(): [name: string, symbol: ts.Symbol][] {
  return (known ??= [...exportedSymbols()]);
}

test("every exported symbol and every member of it is documented", () => {
  const all = symbols();
  expect(all.length).toBeGreaterThan(120);
  const bare = all.filter(([, symbol]) => symbol.getDocumentationComment(checker).length === 0).map(([name]) => name);
  expect(bare).toEqual([]);
});

test("the exported names equal this list", () => {
  const values = symbols().filter(([name, { flags }]) => !name.includes(".") && flags & ts.SymbolFlags.Value);
  expect(values.map(([name]) => name).sort()).toEqual([
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BackgroundQueue",
    "BadRequestError",
    "Config",
    "ConflictError",
    "DroppedPhasesError",
    "Evaluations",
    "ExportBrokenError",
    "NotFoundError",
    "Outcomes",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "PhaseAttempt",
    "PreconditionFailedError",
    "RateLimitError",
    "Recommendations",
    "RequestTimeoutError",
    "Run",
    "RunPhase",
    "ServerError",
    "ServiceUnavailableError",
    "Trajectories",
    "TrajectoryClient",
    "TrajectoryError",
    "TrajectoryExport",
    "TrajectoryList",
    "UnsupportedMediaTypeError",
    "thompsonPropensity",
  ]);
});

test("the types match docs/openapi.json (`npm run generate` updates them)", () => {
  expect(existsSync(OPENAPI), "docs/ must be beside packages/").toBe(true);
  const arguments_ = [`${ROOT}node_modules/openapi-typescript/bin/cli.js`, OPENAPI, "--default-non-nullable=false"];
  const made = execFileSync(process.execPath, arguments_, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  expect(made.trim()).toBe(read("src/openapi.ts").trim());
});

test("the package has no dependencies and imports only its own modules", () => {
  const manifest = JSON.parse(read("package.json")) as Manifest;
  expect(manifest.dependencies).toBeUndefined();
  const files = ts.sys.readDirectory(`${ROOT}dist`, [".js"]);
  expect(files.length).toBeGreaterThan(10);
  const imported = files.flatMap((file) => ts.preProcessFile(readFileSync(file, "utf8")).importedFiles);
  expect(imported.filter(({ fileName }) => !/^\.\/\w+\.js$/.test(fileName))).toEqual([]);
});

test("the lock file has hashes and no addresses", () => {
  const { packages } = JSON.parse(read("package-lock.json")) as Manifest;
  const locked = Object.entries(packages).filter(([path]) => path !== "");
  expect(locked.length).toBeGreaterThan(100);
  expect(locked.filter(([, { integrity }]) => !integrity)).toEqual([]);
  expect(read("package-lock.json")).not.toMatch(/"resolved"|https?:\/\/[^"]*\.tgz/);
});

const PROJECT = mkdtempSync(`${tmpdir()}/trajectories-sdk-`);
afterAll(() => rmSync(PROJECT, { recursive: true }));

test("the packed package can be installed, required and imported", () => {
  const run = (command: string, ...given: string[]) => execFileSync(command, given, { cwd: PROJECT, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  const tarball = run("npm", "pack", "--silent", "--pack-destination", PROJECT, ROOT).trim();
  expect(read("README.md")).toContain(tarball);
  writeFileSync(`${PROJECT}/package.json`, "{}");
  run("npm", "install", "--offline", "--silent", "--no-audit", "--no-fund", `./${tarball}`);
  // A Node that cannot require ES modules still takes the package.
  const body = "console.log(new TrajectoryClient({ baseUrl: 'http://a.example/' }).config.baseUrl)";
  const required = run(process.execPath, "--no-experimental-require-module", "-e", `const { TrajectoryClient } = require("trajectories-sdk"); ${body}`);
  const imported = run(process.execPath, "--input-type=module", "-e", `import { TrajectoryClient } from "trajectories-sdk"; ${body}`);
  expect([required, imported]).toEqual(["http://a.example\n", "http://a.example\n"]);
});
