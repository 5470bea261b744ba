// An Anthropic upstream behind the OpenAI face: every vector through the whole Worker, and streams that break.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { attempts, config, request, startGateway, target, to } from './support/gateway.mjs';
import { events } from './support/client.mjs';
import { chat, event, json, message, messageEvents, sse, startUpstream } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway({ vars: { STREAM_IDLE_TIMEOUT_MS: '4000' } });
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const vectors = new URL('../vectors/anthropic/', import.meta.url);
const claude = (key, more = {}) => to(upstream, key, { 'x-portkey-provider': 'anthropic', ...more });

/** Null and absent are the same, `created` is the clock's, `arguments` are compared as JSON. */
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  const kept = Object.entries(value).filter(([key, inner]) => inner !== null && key !== 'created');
  return Object.fromEntries(kept.map(([key, inner]) => [key, key === 'arguments' ? parsed(inner) : plain(inner)]));
}
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

describe('vector', { concurrency: 4 }, () => {
  for (const file of readdirSync(vectors).filter(file => file.endsWith('.json')).sort()) {
    const vector = JSON.parse(readFileSync(new URL(file, vectors)));
    test(file, async () => {
      const streams = vector.kind === 'stream';
      const status = vector.provider_status ?? 200;
      upstream.on(file, streams ? sse(vector.provider_events.map(event), { gap: 2 }) : json(vector.provider_response, { status, headers: vector.kind === 'error' ? vector.provider_headers : {} }));
      const asked = vector.openai_request ?? { model: 'claude-sonnet-4-5', messages: [{ role: 'user', content: 'Hi' }] };
      const response = await gateway.post('/v1/chat/completions', asked, claude(file, { 'x-portkey-strict-open-ai-compliance': String(vector.strict !== false) }));

      const [sent] = upstream.requests(file);
      assert.equal(sent.path, `/${file}/v1/messages`);
      assert.deepEqual([sent.headers['x-api-key'], sent.headers.authorization, sent.headers['anthropic-version'], sent.headers['content-type']], ['sk-upstream', undefined, '2023-06-01', 'application/json']);
      if (vector.provider_request) assert.deepEqual(JSON.parse(sent.body), vector.provider_request);

      assert.equal(response.status, vector.openai_status ?? 200);
      if (streams) {
        const data = events(response.text()).map(({ data }) => data).filter(Boolean);
        const chunks = data.map(text => (text === '[DONE]' ? text : plain(JSON.parse(text))));
        assert.deepEqual(chunks, vector.openai_chunks.map(chunk => (chunk === '[DONE]' ? chunk : plain(chunk))));
        assert.match(response.headers['content-type'], /^text\/event-stream/);
      } else {
        assert.match(response.headers['content-type'], /^application\/json/);
        if (vector.kind !== 'error') assert.deepEqual(plain(response.json()), plain(vector.openai_response));
        else assert.deepEqual(response.json().error, vector.openai_response.error);
      }

      const trace = await gateway.traceOf(response);
      const [attempt] = attempts(trace);
      const failed = status >= 400 || (streams && !vector.openai_chunks.includes('[DONE]'));
      assert.deepEqual([attempts(trace).length, attempt.status, attempt.status_code, attempt.provider], [1, failed ? 'error' : 'ok', status, 'anthropic']);
      assert.equal(request(trace).status_code, vector.openai_status ?? 200);
      const usage = vector.openai_response?.usage;
      if (usage) {
        assert.deepEqual([attempt.usage.input_tokens, attempt.usage.output_tokens], [usage.prompt_tokens, usage.completion_tokens]);
        assert.ok(attempt.cost_usd > 0);
      }
      const log = await gateway.logOf(response);
      assert.deepEqual(log.request.body, asked);
      if (!streams && vector.kind !== 'error') assert.deepEqual(plain(log.response.body), plain(vector.openai_response));
    });
  }
});

describe('cost', { concurrency: true }, () => {
  test('counts cache reads and writes at their own prices', async () => {
    const usage = { input_tokens: 100, output_tokens: 10, cache_read_input_tokens: 1000, cache_creation_input_tokens: 500, cache_creation: { ephemeral_5m_input_tokens: 200, ephemeral_1h_input_tokens: 300 } };
    upstream.on('cost', json(message('x', { usage })));
    const [attempt] = attempts(await gateway.traceOf(await gateway.chat(claude('cost'), { model: 'claude-sonnet-4-5' })));
    assert.deepEqual([attempt.usage.input_tokens, attempt.usage.cache_read_tokens, attempt.usage.cache_write_tokens], [1600, 1000, 500]);
    const dollars = (100 * 3 + 1000 * 0.3 + 200 * 3.75 + 300 * 6 + 10 * 15) / 1e6;
    assert.ok(Math.abs(attempt.cost_usd - dollars) < 1e-12, `${attempt.cost_usd} is not ${dollars}`);
  });
});

const ALL = messageEvents('one two ');
const BEGUN = ALL.slice(0, 4);
const STOPPED = ALL.slice(4, -1);

describe('a broken stream ends with an error event and no terminator', { concurrency: true }, () => {
  for (const [name, answer, type] of [
    ['cut', sse(BEGUN, { gap: 5 }), 'stream_truncated'],
    ['cut before message_stop', sse([...BEGUN, ...STOPPED], { gap: 5 }), 'stream_truncated'],
    ['cut inside an event', sse([...BEGUN, 'event: content_block_delta\ndata: {"type":"content_'], { gap: 5 }), 'stream_truncated'],
    ['reset', sse(BEGUN, { gap: 5, ending: 'reset' }), 'stream_truncated'],
    ['stalled', sse(BEGUN, { gap: 5, ending: 'stall' }), 'stream_stalled'],
    ['garbage', sse([...BEGUN, 'data: {broken\n\n', ...STOPPED, event({ type: 'message_stop' })], { gap: 5 }), 'stream_malformed'],
    ['HTML', sse(['<html>502</html>\n\n']), 'stream_malformed'],
    ['empty', sse([]), 'stream_truncated'],
  ])
    test(name, { timeout: 60_000 }, async () => {
      const key = `broken-${name}`.replaceAll(/\W+/g, '-');
      upstream.on(key, answer);
      const response = await gateway.chat(claude(key), { model: 'claude-sonnet-4-5', stream: true });
      const data = events(response.text()).map(({ data }) => data).filter(Boolean);
      const { error } = JSON.parse(data.at(-1));
      assert.equal(error?.code, type, response.text().slice(-300));
      assert.ok(!data.includes('[DONE]'));
      const trace = await gateway.traceOf(response);
      assert.deepEqual([attempts(trace)[0].status, attempts(trace)[0].error.type, request(trace).status, request(trace).error.type], ['error', type, 'error', type]);
    });
});

describe('a stream', { concurrency: true }, () => {
  test('cut into any pieces is the same stream', async () => {
    const all = Buffer.from([...BEGUN, event({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'grüße 😀' } }), ...STOPPED, event({ type: 'message_stop' })].join(''));
    const texts = [];
    for (const size of [1, 3, 17, 100_000]) {
      const pieces = [];
      for (let at = 0; at < all.length; at += size) pieces.push(all.subarray(at, at + size));
      upstream.on(`pieces-${size}`, sse(pieces));
      const response = await gateway.chat(claude(`pieces-${size}`), { model: 'claude-sonnet-4-5', stream: true });
      texts.push(response.text().replaceAll(/"created":\d+/g, ''));
      const log = await gateway.logOf(response);
      assert.equal(log.response.body.choices[0].message.content, 'one two grüße 😀');
      assert.equal(log.upstream_request.body.max_tokens, 4096);
    }
    assert.equal(new Set(texts).size, 1);
  });

  test('of many megabytes is translated to its end', { timeout: 120_000 }, async () => {
    const words = Array.from({ length: 45_000 }, (_, index) => `w${index}`).join(' ');
    upstream.on('long', sse(messageEvents(words).join('').match(/.{1,50021}/gs)));
    const response = await gateway.chat(claude('long'), { model: 'claude-sonnet-4-5', stream: true });
    const data = events(response.text()).map(({ data }) => data);
    assert.equal(data.at(-1), '[DONE]');
    const text = data.slice(0, -1).map(chunk => JSON.parse(chunk).choices[0]?.delta.content ?? '').join('');
    assert.ok(text === words);
    assert.equal((await gateway.traceOf(response)).status, 'ok');
  });

  test('shows its first token within 200 ms', async () => {
    const lags = [];
    for (let run = 0; run < 5 && !(Math.min(...lags) <= 200); run++) {
      upstream.on(`quick-${run}`, sse([...BEGUN, ...STOPPED, event({ type: 'message_stop' })], { gap: 200 }));
      const response = await gateway.open('/v1/chat/completions', { model: 'claude-sonnet-4-5', stream: true, messages: [{ role: 'user', content: 'x' }] }, claude(`quick-${run}`));
      await response.until(text => text.includes('one'));
      lags.push(Date.now() - upstream.requests(`quick-${run}`)[0].sentAt[2]);
      await response.closed();
    }
    assert.ok(Math.min(...lags) <= 200, `${lags}`);
  });
});

describe('across dialects', { concurrency: true }, () => {
  test('a fallback goes from Anthropic to OpenAI and back, each in its own language', async () => {
    const overloaded = json({ type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }, { status: 529 });
    upstream.on('mix/a', overloaded).on('mix/b', json(chat('from openai')));
    upstream.on('mix2/a', json({ error: { message: 'no' } }, { status: 500 })).on('mix2/b', json(message('from claude')));
    const claudeAt = key => target(upstream, key, { provider: 'anthropic', override_params: { model: 'claude-sonnet-4-5' } });
    const one = await gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [claudeAt('mix/a'), target(upstream, 'mix/b')] }));
    assert.equal(one.json().choices[0].message.content, 'from openai');
    const two = await gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [target(upstream, 'mix2/a'), claudeAt('mix2/b')] }));
    assert.equal(two.json().choices[0].message.content, 'from claude');
    assert.equal(two.headers['x-portkey-provider'], 'anthropic');
    const tries = attempts(await gateway.traceOf(one));
    assert.deepEqual(tries.map(span => [span.provider, span.status_code, span.request_model]), [['anthropic', 529, 'claude-sonnet-4-5'], ['openai', 200, 'gpt-4o-mini']]);
    assert.equal(JSON.parse(upstream.requests('mix/a')[0].body).max_tokens, 4096);
    assert.equal(JSON.parse(upstream.requests('mix/b')[0].body).max_tokens, undefined);
  });

  test('what Anthropic cannot be asked is refused without an attempt', async () => {
    const response = await gateway.chat(claude('never'), { model: 'claude-sonnet-4-5', messages: [{ role: 'assistant', content: null, tool_calls: [{ id: 'x', type: 'function', function: { name: 'f', arguments: '{broken' } }] }] });
    assert.equal(response.status, 400);
    assert.equal(upstream.requests('never').length, 0);
    assert.equal((await gateway.traceOf(response)).attempt_count, 0);
  });

  test('an answer that is no message is a failure of the upstream', async () => {
    upstream.on('nonsense', json('<html>', { headers: { 'content-type': 'text/html' } }));
    const response = await gateway.chat(claude('nonsense'), { model: 'claude-sonnet-4-5' });
    assert.ok(response.status >= 500, `${response.status}`);
    const trace = await gateway.traceOf(response);
    assert.deepEqual([attempts(trace).length, attempts(trace)[0].status, request(trace).status], [1, 'error', 'error']);
  });
});
