// Run the checks of one client file and print what each gave, as one JSON line: `node try_node.mjs FILE CHECK…`.
import { pathToFileURL } from "node:url";

const [file, ...checks] = process.argv.slice(2);
const client = await import(pathToFileURL(file).href);
const gave = {};
for (const check of checks) {
  if (!(check in client)) continue;
  try {
    gave[check] = await client[check]();
  } catch (error) {
    gave[check] = { error: `${error.name}: ${error.message}` };
  }
}
console.log("\n" + JSON.stringify(gave));
process.exit(0);
