// The official TypeScript SDK, with its tool runner.
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

const client = new Anthropic(); // reads ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY
const model = process.env.LAB_MODEL;
const greet = [{ role: "user", content: "Greet me." }];

export async function hello() {
  return (await client.messages.create({ model, max_tokens: 64, messages: greet })).content[0].text;
}

export async function stream() {
  let pieces = 0;
  await client.messages.stream({ model, max_tokens: 64, messages: greet }).on("text", () => pieces++).finalMessage();
  return pieces;
}

export async function tool() {
  const cities = [];
  const weather = betaZodTool({
    name: "weather",
    description: "Weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    run: ({ city }) => (cities.push(city), "Sunny."),
  });
  const messages = [{ role: "user", content: "How is the weather in Oslo?" }];
  const answer = await client.beta.messages.toolRunner({ model, max_tokens: 200, tools: [weather], messages });
  return [cities, answer.content[0].text];
}

export async function cached() {
  const system = [{ type: "text", text: "harbour ".repeat(400), cache_control: { type: "ephemeral" } }];
  await client.messages.create({ model, max_tokens: 16, system, messages: greet });
  const reply = await client.messages.create({ model, max_tokens: 16, system, messages: greet });
  return reply.usage.cache_read_input_tokens;
}

export async function structured() {
  const format = zodOutputFormat(z.object({ city: z.string() }));
  const messages = [{ role: "user", content: "Ada lives in Oslo." }];
  return (await client.messages.parse({ model, max_tokens: 200, messages, output_config: { format } })).parsed_output;
}
