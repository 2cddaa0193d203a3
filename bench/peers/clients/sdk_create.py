"""Anthropic's SDK as an application uses it: create(stream=True), each event stamped as the loop
over it gets it."""

from anthropic import AsyncAnthropic
from streams import BODY, now_ns, run


async def main(url, played):
    client = AsyncAnthropic(api_key="none", base_url=url, max_retries=0)

    async def ask():
        started_ns, name, at_ns = now_ns(), "", []
        async for event in await client.messages.create(**BODY):
            if event.type == "content_block_delta":
                at_ns.append(now_ns())
            elif event.type == "message_start":
                name = event.message.id
        return name, started_ns, at_ns

    return await played(ask)


run(main)
