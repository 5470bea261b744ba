// Nothing that a caller or an upstream sends makes the gateway fail by itself: no 500, no panic, every call on record.
//
//   FUZZ_SEED=7 FUZZ_CASES=2000 node --test tests/worker/fuzz.test.mjs
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { config, QUESTION, startGateway, target, to } from './support/gateway.mjs';
import { generator } from './support/random.mjs';
import { bytes, chat, chatEvents, json, message, messageEvents, sse, startUpstream } from './support/upstream.mjs';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const CASES = Number(process.env.FUZZ_CASES ?? 600);
const AT_ONCE = 30;
const upstream = await startUpstream();
const gateway = await startGateway({ batchSeconds: 1, vars: { STREAM_IDLE_TIMEOUT_MS: '4000' } });
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const WHOLE_CONFIG = {
  strategy: { mode: 'fallback', on_status_codes: [429, 500] },
  retry: { attempts: 0, on_status_codes: [503], use_retry_after_header: true },
  request_timeout: 3000,
  override_params: { model: 'gpt-4o', stop: ['a'], response_format: { type: 'json_object' } },
  drop_params: ['user', 'tools[*].function.strict'],
  forward_headers: ['x-custom'],
  strict_open_ai_compliance: false,
  targets: [{ provider: 'openai', api_key: 'k', weight: 1, name: 'a' }, { strategy: { mode: 'single' }, targets: [{ provider: 'anthropic', api_key: 'k' }] }],
};
const WHOLE_BODY = {
  ...QUESTION,
  messages: [
    { role: 'system', content: 'be brief' },
    { role: 'user', content: [{ type: 'text', text: 'hi ü 😀' }, { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }] },
    { role: 'assistant', content: null, tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{"a":1}' } }] },
    { role: 'tool', tool_call_id: 'c', content: 'ok' },
  ],
  tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object', properties: {} } } }],
  tool_choice: 'auto', temperature: 0.5, max_tokens: 10, stop: ['x'], user: 'u', n: 1, metadata: { a: 'b' }, stream_options: { include_usage: true },
};
const ODD = ['null', 'true', '-1', '0', '1e999', '99999999999999999999', '""', '"\\ud800"', '"\\u0000"', '[]', '{}', '[[]]', '"x"', '{"a":{"a":{"a":[]}}}', '"@slug/model"', '1.5'];

test(`${CASES} broken configs, bodies and answers of seed ${SEED}`, { timeout: 300_000 }, async () => {
  const problems = [];
  const statuses = {};
  const queue = Array.from({ length: CASES }, (_, number) => number);
  let recorded = 0;
  const worker = async () => {
    for (let number; (number = queue.shift()) !== undefined; ) {
      const draw = generator(SEED * 7919 + number);
      const { headers, body } = makeCall(draw, `f${number}`);
      const response = await gateway.chat({ 'x-portkey-trace-id': `fuzz-${number}`, ...headers }, body).catch(error => ({ status: `broke: ${error.message}`, headers: {}, text: () => '' }));
      statuses[response.status] = (statuses[response.status] ?? 0) + 1;
      const internal = response.status === 500 && /internal_error|Something went wrong/.test(response.text());
      if (internal || typeof response.status !== 'number') problems.push({ number, status: response.status, text: response.text().slice(0, 200), headers, body: body.toString().slice(0, 500) });
      else recorded += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  console.log(`fuzz, seed ${SEED}: ${CASES} calls, statuses ${JSON.stringify(statuses)}`);
  assert.deepEqual(problems.slice(0, 3), []);
  const account = await gateway.rest();
  assert.deepEqual([account.stored, account.dead_lettered], [recorded, 0], 'every call is on record');
});

function makeCall(draw, key) {
  const spoil = (text, share) => (draw.chance(share) ? broken(draw, text) : text);
  const stream = draw.chance(0.4);
  const anthropic = draw.chance(0.4);
  const whole = anthropic ? JSON.stringify(message('ü 😀')) : JSON.stringify(chat('ü 😀'));
  const events = anthropic ? messageEvents('ü 😀 x') : chatEvents('ü 😀 x');
  upstream.on(key, stream ? sse([spoil(events.join(''), 0.7)]) : draw.chance(0.5) ? json(spoil(whole, 0.6)) : bytes([spoil(whole, 0.6)], { status: draw.pick([200, 200, 400, 429, 500, 529]), headers: { 'content-type': draw.pick(['application/json', 'text/html', 'text/event-stream', '']) || 'x' } }));
  const place = draw.chance(0.5)
    ? to(upstream, key, { 'x-portkey-provider': anthropic ? 'anthropic' : 'openai' })
    : config(target(upstream, key, { provider: anthropic ? 'anthropic' : 'openai', ...(draw.chance(0.3) && { override_params: { temperature: 0 } }) }));
  const headers = draw.chance(0.3) ? { 'x-portkey-config': spoil(JSON.stringify(WHOLE_CONFIG), 1).replaceAll(/[^\x20-\x7e]/g, '?') } : place;
  for (const name of ['x-portkey-metadata', 'traceparent', 'baggage', 'x-portkey-request-timeout', 'x-portkey-forward-headers', 'x-portkey-retry-count', 'x-portkey-span-id', 'x-portkey-debug'])
    if (draw.chance(0.1)) headers[name] = draw.pick([...ODD, '{"a":1,"b":[1]}', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'a=b,c', 'x'.repeat(2000)]).replaceAll(/[^\x20-\x7e]/g, '?');
  if (headers['x-portkey-retry-count']) headers['x-portkey-retry-count'] = '0';
  return { headers, body: Buffer.from(spoil(JSON.stringify({ ...WHOLE_BODY, stream }), 0.6)) };
}

/** The text with one or a few things wrong: a value replaced, bytes cut, doubled, flipped. */
function broken(draw, text) {
  let out = text;
  for (let times = draw.count(1, 3); times > 0; times--) {
    const at = draw.count(0, Math.max(0, out.length - 1));
    const values = [...out.matchAll(/(?<=:)("(?:[^"\\]|\\.)*"|-?[\d.]+|null|true|false)/g)];
    const value = values.length && draw.pick(values);
    out = draw.pick([
      () => (value ? out.slice(0, value.index) + draw.pick(ODD) + out.slice(value.index + value[0].length) : out),
      () => (value ? out.slice(0, value.index) + draw.pick(ODD) + out.slice(value.index + value[0].length) : out),
      () => out.slice(0, at),
      () => out.slice(0, at) + out.slice(at + draw.count(1, 10)),
      () => out.slice(0, at) + out.slice(Math.max(0, at - draw.count(1, 40))),
      () => out.slice(0, at) + draw.pick(['{', '}', '"', '\\', '\n', '\r\n', ',', '[', '\u0000', ':', 'data: ', '\ufeff']) + out.slice(at),
    ])();
  }
  return out;
}
