// The two libraries as their users hold them, and what the gateway and the upstream saw of it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { createHeaders, Portkey } from 'portkey-ai';
import * as portkeyErrors from 'portkey-ai/dist/src/error.js';

export const world = JSON.parse(process.env.SPANGATE_WORLD);
const PROVIDER_KEY = 'sk-upstream';
const PATIENCE = 20_000;

/** `connect` takes Portkey's own options; `gatewayKey: null` leaves the key out. */
export const LIBRARIES = [
  {
    name: 'openai',
    errors: OpenAI,
    connect: ({ gatewayKey = world.adminKey, providerKey = PROVIDER_KEY, baseURL = world.gateway, maxRetries = 0, timeout, ...options }) =>
      new OpenAI({ baseURL, apiKey: providerKey, maxRetries, timeout, defaultHeaders: createHeaders({ apiKey: gatewayKey, ...options }) }),
    /** What a single call takes beside its body. */
    perCall: options => ({ headers: createHeaders(options) }),
    headers: async promise => Object.fromEntries((await promise.withResponse()).response.headers),
  },
  {
    name: 'portkey-ai',
    errors: portkeyErrors,
    connect: ({ gatewayKey = world.adminKey, providerKey = PROVIDER_KEY, baseURL = world.gateway, maxRetries, timeout, ...options }) =>
      new Portkey({ baseURL, apiKey: gatewayKey, ...(providerKey && { Authorization: `Bearer ${providerKey}` }), ...options }),
    perCall: options => options,
    headers: async promise => Object.fromEntries(Object.entries((await promise).getHeaders()).map(([name, value]) => [`x-portkey-${name}`, value])),
  },
];

export const QUESTION = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Grüße aus 東京 🗼, said "she" \\ twice' }] };
export const TEXT = QUESTION.messages[0].content;
export const TOOLS = ['get_weather', 'get_time'].map(name => ({
  type: 'function',
  function: { name, parameters: { type: 'object', properties: name === 'get_weather' ? { city: { type: 'string' } } : {} } },
}));

/** An upstream of its own that plays `scenarios` one after the other, the last one for ever; and a trace of its own. */
export async function scene(...scenarios) {
  const key = randomUUID();
  const { base } = await (await fetch(world.control, { method: 'POST', body: JSON.stringify({ key, scenarios }) })).json();
  const provider = scenarios[0].split('-')[0];
  const traceId = `node-${key}`;
  return {
    base,
    traceId,
    /** Sends the client's calls there. */
    options: { provider: provider === 'anthropic' ? provider : 'openai', customHost: base, traceId },
    requests: () => arrived(key),
    recorded: calls => recorded(traceId, { calls }),
  };
}

export const arrived = async key => (await fetch(`${world.control}/${key}`)).json();

/** The trace once it holds `calls` calls: its summary, its request spans and attempts in order, and the log of a span. */
export async function recorded(traceId, { calls = 1, base = world.gateway } = {}) {
  const get = async path => fetch(base + path, { headers: { 'x-portkey-api-key': world.adminKey } });
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const response = await get(`/traces/${encodeURIComponent(traceId)}`);
    const trace = response.status === 200 ? await response.json() : {};
    if (trace.request_count >= calls)
      return {
        trace,
        calls: trace.spans.filter(span => span.kind === 'request'),
        attempts: trace.spans.filter(span => span.kind === 'attempt'),
        log: async span => (await get(`/logs/${encodeURIComponent(span.log_id)}`)).json(),
      };
    if (Date.now() > deadline) throw new Error(`trace ${traceId} has ${trace.request_count ?? 'no'} call(s) instead of ${calls}: ${response.status}`);
    await sleep(50);
  }
}

/** `calls` calls with one attempt each, all of this kind; `error` is the type, `message` a part of it. */
export async function recordedAs(scene, { status = 'ok', code = 200, upstreamCode = code, error = null, message = '', calls = 1, attempts = calls, ...more }) {
  const found = await scene.recorded(calls);
  assert.equal(found.trace.status, status);
  assert.deepEqual([found.calls.length, found.attempts.length], [calls, attempts]);
  for (const span of [...found.calls, ...found.attempts]) {
    const answered = ['connect', 'timeout'].includes(error) ? null : upstreamCode;
    shows(span, { status, status_code: span.kind === 'attempt' ? answered : code, ...more });
    assert.equal(span.error?.type ?? null, error, `${span.kind}: ${JSON.stringify(span.error)}`);
    if (message) assert.ok(span.error.message.includes(message), `${span.kind}: ${span.error.message}`);
  }
  for (const attempt of found.attempts) assert.ok(found.calls.some(call => call.span_id === attempt.parent_span_id));
  return found;
}

/** `actual` has everything that `expected` has, compared member by member. */
export function shows(actual, expected) {
  for (const [name, value] of Object.entries(expected)) {
    if (value && typeof value === 'object' && !Array.isArray(value) && actual?.[name]) shows(actual[name], value);
    else assert.deepEqual(actual?.[name], value, `${name} of ${JSON.stringify(actual)}`);
  }
}

/** What a stream said: its text, its tool calls, its usage and every chunk. */
export async function read(stream) {
  const told = { chunks: [], text: '', tools: [], usage: null, finish: null };
  for await (const chunk of stream) {
    told.chunks.push(chunk);
    told.usage = chunk.usage ?? told.usage;
    for (const { delta, finish_reason } of chunk.choices ?? []) {
      told.text += delta.content ?? '';
      told.finish = finish_reason ?? told.finish;
      for (const { index, ...call } of delta.tool_calls ?? []) {
        const known = (told.tools[index] ??= { id: call.id, type: call.type, function: { name: call.function.name, arguments: '' } });
        known.function.arguments += call.function.arguments ?? '';
      }
    }
  }
  return told;
}

/** Reads a stream that breaks: what was said before, and what was thrown. */
export async function readBroken(stream) {
  const said = [];
  try {
    for await (const chunk of stream) said.push(chunk.choices?.[0]?.delta.content ?? '');
  } catch (error) {
    return { text: said.join(''), error };
  }
  throw new assert.AssertionError({ message: `the stream ended as if it were whole, after: ${said.join('')}` });
}

/** What a rejected call threw. */
export async function thrown(promise) {
  const outcome = await promise.then(answer => ({ answer }), error => ({ error }));
  if (outcome.error) return outcome.error;
  throw new assert.AssertionError({ message: `answered ${JSON.stringify(outcome.answer)}` });
}
