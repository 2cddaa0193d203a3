"""llama.cpp's own server with its native /v1/messages, as xllamacpp brings it: `python -m
bench.interop.llama_cpp PORT KEY`."""

import signal
import sys

from lab import machine
from lab.local import model_files


def main() -> None:
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path, params.model_alias = str(model_files.source()), {model_files.SMALL}
    params.port, params.api_keys = int(sys.argv[1]), [sys.argv[2]]
    params.n_ctx, params.use_jinja, params.verbosity, params.ui = 8192, True, 0, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = machine.physical_cores()
    server = Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
