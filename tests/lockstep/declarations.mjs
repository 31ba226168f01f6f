// Writes the declarations of the built TypeScript package, and the requests of its methods, as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const root = process.argv[2];
const ts = createRequire(`${root}/package.json`)("typescript");
const program = ts.createProgram([`${root}/page/dist/index.d.ts`], { strict: true, target: ts.ScriptTarget.ESNext, types: [] });
const checker = program.getTypeChecker();
const moduleOf = (name) => checker.getSymbolAtLocation(program.getSourceFile(`${root}/page/dist/${name}.d.ts`));
const exportsOf = (name) => new Map(checker.getExportsOfModule(moduleOf(name)).map((symbol) => [symbol.name, symbol]));
const names = (type) => checker.getPropertiesOfType(type).map((property) => property.name);
const declared = (symbol) => checker.getDeclaredTypeOfSymbol(symbol);

const index = exportsOf("index");

function resolved(symbol) {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

function typeOf(name) {
  const symbol = index.get(name);
  if (symbol === undefined) throw new Error(`index.d.ts does not export ${name}`);
  return declared(resolved(symbol));
}

function schemas() {
  const components = declared(exportsOf("openapi").get("components"));
  const all = checker.getTypeOfSymbol(checker.getPropertyOfType(components, "schemas"));
  const entries = checker.getPropertiesOfType(all).map((one) => [one.name, names(checker.getTypeOfSymbol(one))]);
  return Object.fromEntries(entries);
}

function methods(resource) {
  const found = {};
  for (const property of checker.getPropertiesOfType(typeOf(resource))) {
    const signatures = checker.getTypeOfSymbol(property).getCallSignatures();
    if (property.name.startsWith("#") || signatures.length === 0) continue;
    found[property.name] = [...new Set(signatures.flatMap((signature) => signature.parameters.flatMap(taken)))];
  }
  return found;
}

// For an object of parameters or options, return the names of its properties.
function taken(parameter) {
  const type = checker.getNonNullableType(checker.getTypeOfSymbol(parameter));
  return ["parameters", "filters", "options"].includes(parameter.name) ? names(type) : [parameter.name];
}

const run = { id: "29243fa3-f296-5e3b-9266-7052b77cbfe9", request_summary: "x", phases: [] };
const GIVEN = {
  record: [run],
  recordMany: [[run]],
  update: [run.id, {}],
  retrieve: [run.id],
  delete: [run.id],
  deleteMatching: [{ tag: "x", dry_run: true }],
  enqueue: [run],
  run: ["x", { background: false }, () => {}],
};

const ACCEPTED = { accepted: 1, refused: 0, results: [{ line: 1, id: run.id, status: 201, revision: 1 }] };

const OUTCOME = { name: "merged", value: true, trajectory_id: run.id };

// Operations beside client.trajectories, by the name of each call.
const OTHERS = {
  "recommendations.create": (client) => client.recommendations.create("x", ["m"]),
  "evaluations.create": (client) => client.evaluations.create({ always: "m" }),
  alerts: (client) => client.alerts(),
};

async function requests(call) {
  const seen = [];
  const fetch = async (url, { method = "GET" } = {}) => {
    seen.push(`${method} ${new URL(url).pathname}`);
    // The background queue repeats what is not accepted, and flush() would wait for it: accept every record.
    return method === "POST" ? Response.json(ACCEPTED) : new Response("{}", { status: 400 });
  };
  const { TrajectoryClient } = await import(pathToFileURL(`${root}/page/dist/index.js`));
  const client = new TrajectoryClient({ baseUrl: "http://trajectories.test", fetch, maxRetries: 0 });
  try {
    const answer = call(client);
    if (answer?.[Symbol.asyncIterator]) for await (const _ of answer);
    else await answer;
  } catch {
    // Most answers are errors: only the request counts.
  }
  await client.queue.flush();
  await client.close();
  return [...new Set(seen)];
}

async function errors() {
  const module = await import(pathToFileURL(`${root}/page/dist/index.js`));
  const found = {};
  for (let status = 400; status < 600; status++) {
    const fetch = async () => new Response("{}", { status });
    const client = new module.TrajectoryClient({ baseUrl: "http://trajectories.test", fetch, maxRetries: 0 });
    found[status] = await client.trajectories.stats().catch((error) => error.constructor.name);
  }
  return found;
}

const known = {};
const calls = {};
for (const [noun, resource] of [["trajectories", "Trajectories"], ["outcomes", "Outcomes"]])
  for (const [name, arguments_] of Object.entries(methods(resource))) {
    const given = noun === "outcomes" ? [name === "record" ? OUTCOME : run.id] : GIVEN[name];
    known[`${noun}.${name}`] = arguments_;
    calls[`${noun}.${name}`] = await requests((client) => client[noun][name](...(given ?? [])));
  }
const others = {};
for (const [name, call] of Object.entries(OTHERS)) others[name] = await requests(call);
const [ofAlerts] = checker.getTypeOfSymbol(checker.getPropertyOfType(typeOf("TrajectoryClient"), "alerts")).getCallSignatures()[0].parameters;
const alerts = names(checker.getNonNullableType(checker.getTypeOfSymbol(ofAlerts)));
const recorder = Object.fromEntries(["RunFields", "PhaseFields"].map((name) => [name, names(typeOf(name))]));
const SENT = ["Trajectory", "Phase", "Candidate", "FeedbackLoop", "Attempt", "Exploration", "TrajectoryPatch", "PhasePatch", "ExplorationPatch", "LateOutcome", "RecommendationRequest", "CandidateModel", "EvaluationRequest"];
const sent = Object.fromEntries(SENT.map((name) => [name, names(typeOf(name))]));
process.stdout.write(JSON.stringify({ schemas: schemas(), sent, recorder, methods: known, calls, others, alerts, errors: await errors() }));
