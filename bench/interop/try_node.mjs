// Run the checks of one client file; after each, a JSON line with what all have given so far: `node try_node.mjs FILE CHECK…`.
import { pathToFileURL } from "node:url";

const [file, ...checks] = process.argv.slice(2);
const client = await import(pathToFileURL(file).href);
const gave = {};
for (const check of checks) {
  if (check in client) {
    try {
      gave[check] = await client[check]();
    } catch (error) {
      gave[check] = { error: `${error.name}: ${error.message}` };
    }
  }
  console.log("\n" + JSON.stringify(gave));
}
process.exit(0);
