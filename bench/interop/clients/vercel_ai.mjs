// Vercel's AI SDK with its Anthropic provider.
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, Output, stepCountIs, streamText, tool as asTool } from "ai";
import { z } from "zod";

// This provider's address ends in /v1; the key comes from ANTHROPIC_API_KEY.
const anthropic = createAnthropic({ baseURL: `${process.env.ANTHROPIC_BASE_URL}/v1` });
const model = anthropic(process.env.LAB_MODEL);

export async function hello() {
  return (await generateText({ model, prompt: "Greet me." })).text;
}

export async function stream() {
  let pieces = 0;
  for await (const piece of streamText({ model, prompt: "Greet me." }).textStream) pieces++;
  return pieces;
}

export async function tool() {
  const cities = [];
  const weather = asTool({
    description: "Weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => (cities.push(city), "Sunny."),
  });
  const prompt = "How is the weather in Oslo?";
  const { text } = await generateText({ model, prompt, tools: { weather }, stopWhen: stepCountIs(3) });
  return [cities, text];
}

export async function cached() {
  const providerOptions = { anthropic: { cacheControl: { type: "ephemeral" } } };
  const instructions = { role: "system", content: "harbour ".repeat(400), providerOptions };
  await generateText({ model, instructions, prompt: "Greet me." });
  return (await generateText({ model, instructions, prompt: "Greet me." })).usage.inputTokenDetails.cacheReadTokens;
}

export async function structured() {
  const output = Output.object({ schema: z.object({ city: z.string() }) });
  return (await generateText({ model, prompt: "Ada lives in Oslo.", output })).output;
}
