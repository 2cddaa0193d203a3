"""aiohttp, nothing else: raw bytes are stamped as they come, and read after the answer's end."""

import aiohttp
from streams import BODY, now_ns, run, tokens


async def main(url, played):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask():
            started_ns, arrivals = now_ns(), []
            async with session.post(f"{url}/v1/messages", json=BODY) as response:
                async for piece in response.content.iter_any():
                    arrivals.append((now_ns(), piece))
            name, at_ns = tokens(arrivals)
            return name, started_ns, at_ns

        return await played(ask)


run(main)
