"""Why a request got no answer, in a sentence with the next step."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from lab import machine
from lab.endpoints import keys
from lab.endpoints.registry import Endpoint
from lab.instrumentation.parsing import Reading
from lab.instrumentation.stamps import Exchange

TITLE = re.compile(r"<title[^>]*>\s*(.{0,80}?)\s*</title>", re.IGNORECASE | re.DOTALL)
NO_TLS = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST")
NO_HOST = re.compile("Name or service not known|nodename nor servname|name resolution|No address")


def cause(
    endpoint: Endpoint, exchange: Exchange | None, reading: Reading, failure: BaseException | None
) -> str:
    """Of one request that failed; the server's own words stand in it unscrubbed."""
    status = exchange.status if exchange else None
    if status is None:
        return _unreached(endpoint, _chain(failure), reading)
    words = (reading.error_text or "").strip()
    start = b"".join(data for _, data in exchange.chunks[:8])[:4096].lstrip()
    place = keys.base_url(endpoint.base_url)
    if 300 <= status < 400:
        host = urlsplit(exchange.headers.get("location", "")).netloc.rpartition("@")[2]
        where = f"; if {host} is the server that you mean, give its address" if host else ""
        return (
            f"Redirected (status {status}), and no redirect is followed, since the key belongs to"
            f" one address{where}."
        )
    if start[:1] == b"<" and status not in (413, 502, 503, 504):
        match = TITLE.search(start.decode("utf-8", "replace"))
        title = f", “{match[1]}”" if match and match[1] else ""
        return (
            f"An HTML page came (status {status}{title}) where a message belongs: a login page, a"
            " proxy's notice or another server. Give the address of the API itself, or sign in to"
            " what stands before it."
        )
    if status in (401, 403, 407):
        return f"{of_the_key(endpoint, status, place)} The server's words: {words or 'none'}"
    if status == 413:
        return (
            "The server takes no request as long as this (status 413). Raise its limit (nginx:"
            f" client_max_body_size). {words}"
        )
    if status in (404, 405) and not names_a_model(reading):
        return (
            f"Nothing at {place}/v1/messages answers (status {status}). Give the address up to, and"
            f" without, /v1/messages; {words or 'the server says nothing more'}"
        )
    if status in (400, 404) and names_a_model(reading):
        return (
            f"The server refused the model (status {status}): {words} Name one that it has:"
            " --model NAME."
        )
    if status in (429, 529):
        return (
            f"The server is overloaded or its rate limit is reached (status {status}). Try again"
            f" later. {words}"
        )
    if status >= 500:
        return f"The server failed (status {status}); see its own log. Its words: {words or 'none'}"
    if status >= 400:
        return f"The server refused the request (status {status}): {words or 'without words'}"
    return (
        f"{reading.error_kind}: {words}. This is not the Messages API, or something on the way"
        " changed its answer."
    )


def _unreached(endpoint: Endpoint, chain: str, reading: Reading) -> str:
    parts = urlsplit(endpoint.base_url)
    host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    proxy = urlsplit(machine.proxy(endpoint.base_url) or "").netloc.rpartition("@")[2]
    if "CERTIFICATE_VERIFY_FAILED" in chain:
        why = chain.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        if "expired" in why or "not yet valid" in why:
            advice = "Renew it, or set this machine's clock."
        elif "ostname mismatch" in why or "IP address mismatch" in why:
            advice = "Give the address by the name that the certificate has."
        else:
            advice = (
                "Where a private authority signed it, name that authority's file:"
                " SSL_CERT_FILE=/path/to/authority.pem."
            )
        return f"The certificate of {host} is refused: {why or 'it cannot be verified'}. {advice}"
    if NO_TLS.search(chain):
        return (
            f"{host} speaks no TLS at this port. Try http:// instead of https://, or another port."
        )
    if proxy:
        return (
            f"The proxy {proxy} of {parts.scheme.upper()}_PROXY lets nothing through to {host}"
            f" ({reading.error_text}). Start or correct the proxy, or add {parts.hostname} to"
            " NO_PROXY."
        )
    if NO_HOST.search(chain):
        return f"There is no host {parts.hostname}. Check the address for a typo, and the network."
    if "refused" in chain or "Connect call failed" in chain:
        return f"Nothing listens at {host}. Start the server, or check the port."
    if reading.error_kind in ("timeout", "cancelled") or "imeout" in chain:
        return (
            f"{host} did not answer in time. Check that the server is up, and that no firewall"
            " blocks the way to it."
        )
    return f"{host} was not reached or hung up: {reading.error_text}. Check the server's own log."


def of_the_key(endpoint: Endpoint, status: int, place: str) -> str:
    """What is wrong with the key that went there, or with its absence."""
    if status == 407:
        return (
            f"The proxy before {place} wants a name and a password: put them into"
            f" {urlsplit(place).scheme.upper()}_PROXY."
        )
    if endpoint.api_key in ("", keys.PLACEHOLDER):
        return (
            f"No key was sent, and the server wants one (status {status}). Give it one:"
            f' LAB_API_KEYS=\'{{"{place}": "KEY"}}\', or api_key under [endpoints.NAME] in'
            " .streamlit/secrets.toml."
        )
    return (
        f"The key for {keys.origin(place)} is refused (status {status}). Check that it is this"
        " server's, and that it may use the model."
    )


def names_a_model(reading: Reading) -> bool:
    return "model" in (reading.error_text or "").lower()


def _chain(failure: BaseException | None) -> str:
    """Everything that a failure and what it came from say."""
    words = []
    while failure is not None and len(words) < 10:
        words.append(f"{type(failure).__name__}: {failure}")
        failure = failure.__cause__ or failure.__context__
    return " | ".join(words)
