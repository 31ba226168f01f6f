// Prints what the emitted declarations (dist/*.d.ts) say, as JSON, for the test that holds both SDKs against the API:
//
//   classes   {"Trajectories": {"list": [["parameters", ["agent", …]], ["options", ["signal"]]], …}, …}
//             each method with its parameters and the names in each that is an object, over all its overloads
//   types     {"Filters": ["agent", …], "StoredTrajectory": [dotted paths of every field, "phases[].model", …], …}
//   errors    {"BadRequestError": "APIStatusError", …}
import { fileURLToPath } from "node:url";
import ts from "typescript";

const ENTRY = fileURLToPath(new URL("../dist/index.d.ts", import.meta.url));
const program = ts.createProgram([ENTRY], {
  module: ts.ModuleKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  lib: ["lib.es2023.d.ts", "lib.dom.d.ts", "lib.dom.asynciterable.d.ts", "lib.esnext.disposable.d.ts"],
  strict: true,
  types: [],
});
const source = program.getSourceFile(ENTRY);
if (!source) throw new Error("There is no dist/index.d.ts; run `npm run build` first.");
const checker = program.getTypeChecker();

const isOurs = (symbol) => symbol.declarations?.some((node) => node.getSourceFile().fileName.includes("/dist/"));
const sorted = (names) => [...new Set(names)].sort();

/** The names in an object of ours, and of what it holds: "phases[].model". */
function paths(type, prefix = "", above = []) {
  const bare = checker.getNonNullableType(type);
  if (bare.isUnion()) return bare.types.flatMap((part) => paths(part, prefix, above));
  if (checker.isArrayType(bare)) return paths(checker.getTypeArguments(bare)[0], `${prefix}[]`, above);
  if (above.includes(bare) || bare.getCallSignatures().length > 0) return [];
  return checker.getPropertiesOfType(bare).filter(isOurs).flatMap((property) => {
    const path = prefix ? `${prefix}.${property.name}` : property.name;
    return [path, ...paths(checker.getTypeOfSymbol(property), path, [...above, bare])];
  });
}

function names(type) {
  const bare = checker.getNonNullableType(type);
  return sorted(checker.getPropertiesOfType(bare).filter(isOurs).map(({ name }) => name));
}

function methods(symbol) {
  const found = {};
  for (const member of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol)).filter(isOurs)) {
    if (/^__|#/.test(member.name)) continue;
    const parameters = new Map();
    for (const signature of checker.getTypeOfSymbol(member).getCallSignatures()) {
      for (const parameter of signature.parameters) {
        const name = parameter.name.startsWith("__") ? "options" : parameter.name; // it is taken apart
        parameters.set(name, [...(parameters.get(name) ?? []), ...names(checker.getTypeOfSymbol(parameter))]);
      }
    }
    found[member.name] = [...parameters].map(([name, inside]) => [name, sorted(inside)]);
  }
  return found;
}

const surface = { classes: {}, types: {}, errors: {} };
for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(source))) {
  const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
  const type = checker.getDeclaredTypeOfSymbol(symbol);
  if (!(symbol.flags & ts.SymbolFlags.Class)) surface.types[symbol.name] = sorted(paths(type));
  else if (symbol.name.endsWith("Error")) surface.errors[symbol.name] = checker.getBaseTypes(type)[0].symbol.name;
  else surface.classes[symbol.name] = methods(symbol);
}
console.log(JSON.stringify(surface, null, 2));
