"""Run the checks of one client file; after each, a JSON line with what all have given so far:
`python try_python.py FILE CHECK…`."""

import importlib.util
import json
import sys

spec = importlib.util.spec_from_file_location("client", sys.argv[1])
client = importlib.util.module_from_spec(spec)
spec.loader.exec_module(client)
gave = {}
for check in sys.argv[2:]:
    if hasattr(client, check):
        try:
            gave[check] = getattr(client, check)()
        except Exception as error:
            gave[check] = {"error": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(gave, default=str), flush=True)
