"""litellm as a library."""

import os

import litellm

# The key and the address come from ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.
model = "anthropic/" + os.environ["LAB_MODEL"]
greet = [{"role": "user", "content": "Greet me."}]


def hello():
    return litellm.completion(model, greet, max_tokens=64).choices[0].message.content


def stream():
    reply = litellm.completion(model, greet, max_tokens=64, stream=True)
    return sum(1 for piece in reply if piece.choices[0].delta.content)


def tool():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    weather = {
        "type": "function",
        "function": {"name": "weather", "description": "Weather in a city.", "parameters": schema},
    }
    turns = [{"role": "user", "content": "How is the weather in Oslo?"}]
    asked = litellm.completion(model, turns, max_tokens=200, tools=[weather]).choices[0].message
    turns.append(asked.model_dump())
    turns += [
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny."} for call in asked.tool_calls
    ]
    return (
        len(asked.tool_calls),
        litellm.completion(model, turns, max_tokens=200, tools=[weather])
        .choices[0]
        .message.content,
    )


def cached():
    prefix = {"type": "text", "text": "harbour " * 400, "cache_control": {"type": "ephemeral"}}
    for _ in range(2):
        reply = litellm.completion(
            model, [{"role": "system", "content": [prefix]}, *greet], max_tokens=16
        )
    return reply.usage.prompt_tokens_details.cached_tokens


def structured():
    import json

    from pydantic import BaseModel

    class Place(BaseModel):
        city: str

    reply = litellm.completion(
        model,
        [{"role": "user", "content": "Ada lives in Oslo."}],
        max_tokens=200,
        response_format=Place,
    )
    return json.loads(reply.choices[0].message.content)
