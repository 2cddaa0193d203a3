"""The clients and servers that are tried, at the versions that were: what is installed, and which
file or command runs it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CHECKS = ("hello", "stream", "tool", "cached", "structured")
KEY = "interop"
MODELS = {"small": "simulated-small", "large": "simulated-large"}


class Client(NamedTuple):
    """`packages` of PyPI, or of npm where the file is .mjs; `npm` besides for a program that a
    Python file starts."""

    name: str
    file: str
    packages: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    embedded: bool = False
    """Whether the embedded model is asked too, which takes minutes."""

    @property
    def path(self) -> Path:
        return HERE / "clients" / self.file


CLIENTS = (
    Client("anthropic-python", "anthropic_sdk.py", ("anthropic==2.12.0",), embedded=True),
    Client(
        "anthropic-typescript",
        "typescript_sdk.mjs",
        ("@anthropic-ai/sdk@1.14.0", "zod@4.6.7"),
        embedded=True,
    ),
    Client(
        "claude-code", "claude_code.py", npm=("@anthropic-ai/claude-code@2.1.332",), embedded=True
    ),
    Client("langchain", "langchain_chat.py", ("langchain-anthropic==1.7.10",)),
    Client("vercel-ai", "vercel_ai.mjs", ("ai@7.0.173", "@ai-sdk/anthropic@4.0.105", "zod@4.6.7")),
    Client("pydantic-ai", "pydantic_ai_agent.py", ("pydantic-ai-slim[anthropic]==2.68.0",)),
    Client(
        "inspect-ai", "inspect_task.py", ("inspect-ai==0.3.285", "anthropic==2.12.0"), embedded=True
    ),
    Client("llm", "llm_plugin.py", ("llm==0.36", "llm-anthropic==0.30"), embedded=True),
    Client("instructor", "instructor_client.py", ("instructor[anthropic]==1.17.0",)),
    Client("litellm", "litellm_client.py", ("litellm==1.110.2",)),
    Client("aiperf", "aiperf_profile.py", ("aiperf==0.13.0",)),
)


class Server(NamedTuple):
    """`command(folder, port, behind)` starts it in its folder, with the simulated server at the
    address `behind`."""

    name: str
    command: object
    packages: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    program: str = ""
    """What has to be on PATH already."""
    scheme: str = "http"
    models: dict[str, str] = MODELS
    caching: tuple[str, ...] = ()
    """Flags of its caching run."""
    certificate: str = ""
    """The private authority's certificate, in its folder, for SSL_CERT_FILE."""


def llama_cpp(folder: Path, port: int, behind: str) -> list[str]:
    return [sys.executable, "-m", "bench.interop.llama_cpp", str(port), KEY]


def litellm_proxy(folder: Path, port: int, behind: str) -> list[str]:
    there = {"api_base": behind, "api_key": KEY}
    models = [
        {"model_name": name, "litellm_params": {"model": f"anthropic/{name}", **there}}
        for name in MODELS.values()
    ]
    (folder / "proxy.yaml").write_text(
        json.dumps({"model_list": models, "general_settings": {"master_key": KEY}})
    )
    return [
        "litellm",
        "--config",
        str(folder / "proxy.yaml"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]


def nginx(folder: Path, port: int, behind: str) -> list[str]:
    (folder / "nginx.conf").write_text(
        # As root its workers would be nobody's, whom the folder is closed to.
        f"""daemon off; {"user root; " if os.geteuid() == 0 else ""}pid {folder}/pid;
        error_log stderr; events {{}}
http {{
  access_log off; client_body_temp_path {folder}/in; proxy_temp_path {folder}/out;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {behind}; }} }}
}}
"""
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def mitmproxy(folder: Path, port: int, behind: str) -> list[str]:
    return (
        f"mitmdump -q --mode reverse:{behind} --listen-host 127.0.0.1 -p {port} --set"
        f" confdir={folder}/authority".split()
    )


def mitmproxy_streaming(folder: Path, port: int, behind: str) -> list[str]:
    return [*mitmproxy(folder, port, behind), "--set", "stream_large_bodies=1"]


def aimock(folder: Path, port: int, behind: str) -> list[str]:
    """Answers everything with one sentence; knows no caching."""
    answer = {
        "content": (
            "The ferry leaves at nine, and the lamp in the kitchen is lit until everybody has come"
            " home. " * 3
        )
    }
    (folder / "answers.json").write_text(
        json.dumps({"fixtures": [{"match": {}, "response": answer}]})
    )
    return f"llmock -f {folder}/answers.json -p {port} --latency 20 --log-level silent".split()


EMBEDDED = "smollm2-135m"
SHORT = ("--prefix-tokens", "300", "--answer-tokens", "4")
MITMPROXY = ("mitmproxy==11.0.2",)
SERVERS = (
    Server(
        "llama.cpp",
        llama_cpp,
        models={"small": EMBEDDED, "large": EMBEDDED},
        caching=SHORT,
    ),
    Server("litellm proxy", litellm_proxy, ("litellm[proxy]==1.97.0", "fastapi==0.136.3")),
    Server("nginx", nginx, program="nginx"),
    Server("mitmproxy", mitmproxy, MITMPROXY),
    Server("mitmproxy, streaming", mitmproxy_streaming, MITMPROXY),
    Server("TLS, authority unknown", mitmproxy_streaming, MITMPROXY, scheme="https"),
    Server(
        "TLS, SSL_CERT_FILE",
        mitmproxy_streaming,
        MITMPROXY,
        scheme="https",
        certificate="authority/mitmproxy-ca-cert.pem",
    ),
    Server("aimock", aimock, npm=("@copilotkit/aimock@1.43.0",)),
)
