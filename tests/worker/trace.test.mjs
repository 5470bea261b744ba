// Trace ids, spans, parents, names and metadata (protocol checklist 1–12, 14–17; query-api §1).
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { attempts, config, request, startGateway, target, to } from './support/gateway.mjs';
import { chat, chatEvents, json, sse, startUpstream, status } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway();
after(() => Promise.all([gateway.stop(), upstream.stop()]));
upstream.on('ok', json(chat()));

/** One call with these headers; its response and its request span. */
async function call(headers = {}, body = {}) {
  const response = await gateway.chat(to(upstream, 'ok', headers), body);
  assert.equal(response.status, 200, response.text());
  const trace = await gateway.traceOf(response);
  return { response, trace, span: trace.spans.find(span => span.kind === 'request' && span.log_id === response.headers['x-portkey-request-id']) ?? request(trace) };
}

describe('ids', { concurrency: true }, () => {
  test('the trace id of the caller is echoed and stored', async () => {
    const { response, trace } = await call({ 'x-portkey-trace-id': 'mine-1' });
    assert.equal(response.headers['x-portkey-trace-id'], 'mine-1');
    assert.equal(trace.trace_id, 'mine-1');
  });

  test('without one each call gets a fresh one', async () => {
    const [one, two] = await Promise.all([call(), call()]);
    assert.match(one.trace.trace_id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.notEqual(one.trace.trace_id, two.trace.trace_id);
    assert.notEqual(one.span.span_id, two.span.span_id);
  });

  test('two calls of one trace are in it in time order', async () => {
    upstream.on('embed', json({ object: 'list', data: [], model: 'text-embedding-3-small', usage: { prompt_tokens: 5, total_tokens: 5 } }));
    const headers = { 'x-portkey-trace-id': 'two-calls' };
    await gateway.chat(to(upstream, 'ok', headers));
    await gateway.post('/v1/embeddings', { model: 'text-embedding-3-small', input: 'a' }, to(upstream, 'embed', headers));
    const trace = await gateway.settled('two-calls', 2);
    assert.deepEqual([trace.request_count, trace.attempt_count, trace.span_count], [2, 2, 4]);
    assert.deepEqual(trace.spans.filter(span => span.kind === 'request').map(span => span.operation), ['chat', 'embeddings']);
    const starts = trace.spans.map(span => span.start_time);
    assert.deepEqual(starts, [...starts].sort());
  });

  test('span id, name and parent are stored verbatim', async () => {
    const { span } = await call({ 'x-portkey-trace-id': 'tree', 'x-portkey-span-id': 'Span/7 a', 'x-portkey-span-name': 'Answer the user', 'x-portkey-parent-span-id': 'parent:1' });
    assert.deepEqual([span.span_id, span.name, span.parent_span_id], ['Span/7 a', 'Answer the user', 'parent:1']);
  });

  test('without them the span is a root named after the route', async () => {
    const { span } = await call({ 'x-portkey-parent-span-id': '' });
    assert.deepEqual([span.parent_span_id, span.name], [null, 'POST /v1/chat/completions']);
    assert.match(span.otel_span_id, /^[0-9a-f]{16}$/);
    assert.match(span.otel_trace_id ?? '0'.repeat(32), /^[0-9a-f]{32}$/);
  });

  test('a child stored before its parent is linked when the parent comes', async () => {
    const headers = { 'x-portkey-trace-id': 'late-parent' };
    await call({ ...headers, 'x-portkey-span-id': 'child', 'x-portkey-parent-span-id': 'parent' });
    await call({ ...headers, 'x-portkey-span-id': 'parent' });
    const trace = await gateway.settled('late-parent', 2);
    const byId = Object.fromEntries(trace.spans.filter(span => span.kind === 'request').map(span => [span.span_id, span.parent_span_id]));
    assert.deepEqual(byId, { child: 'parent', parent: null });
  });

  test('a span id used twice keeps both records', async () => {
    const headers = { 'x-portkey-trace-id': 'sticky', 'x-portkey-span-id': 'same' };
    const [one, two] = [await gateway.chat(to(upstream, 'ok', headers)), await gateway.chat(to(upstream, 'ok', headers))];
    const trace = await gateway.settled('sticky', 2);
    assert.deepEqual(trace.spans.filter(span => span.kind === 'request').map(span => span.span_id), ['same', 'same']);
    assert.equal(trace.span_count, 4);
    assert.notEqual(one.headers['x-portkey-request-id'], two.headers['x-portkey-request-id']);
  });

  for (const id of ['a b/c?d=e&f#g', '%2F%41', 'x'.repeat(200), '../../etc/passwd', "'; DROP TABLE span; --", 'a\\b"c', '1729'])
    test(`the id ${id.slice(0, 24)} is stored and found verbatim`, async () => {
      const { trace, response } = await call({ 'x-portkey-trace-id': id });
      assert.equal(trace.trace_id, id);
      assert.equal(response.headers['x-portkey-trace-id'], id);
    });
});

describe('W3C headers', { concurrency: true }, () => {
  const traceId = tail => `0af7651916cd43dd8448eb211c80${tail}`;

  test('traceparent gives trace and parent, and a new span', async () => {
    const { span, trace } = await call({ traceparent: `00-${traceId('0001')}-b7ad6b7169203331-00` });
    assert.deepEqual([trace.trace_id, span.parent_span_id, span.name], [traceId('0001'), 'b7ad6b7169203331', 'POST /v1/chat/completions']);
    assert.notEqual(span.span_id, 'b7ad6b7169203331');
    assert.equal(trace.otel_trace_id, traceId('0001'));
  });

  test('x-portkey headers win field by field', async () => {
    const { span, trace } = await call({ traceparent: `00-${traceId('0002')}-b7ad6b7169203331-01`, 'x-portkey-trace-id': 'wins', 'x-portkey-span-name': 'n' });
    assert.deepEqual([trace.trace_id, span.parent_span_id, span.name], ['wins', 'b7ad6b7169203331', 'n']);
    const other = await call({ traceparent: `00-${traceId('0003')}-b7ad6b7169203331-01`, 'x-portkey-parent-span-id': 'p' });
    assert.deepEqual([other.trace.trace_id, other.span.parent_span_id], [traceId('0003'), 'p']);
  });

  for (const bad of ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331', 'ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`, `00-0af7651916cd43dd8448eb211c80319c-${'0'.repeat(16)}-01`, '00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01', 'nonsense'])
    test(`malformed and ignored: ${bad}`, async () => {
      const { span, trace } = await call({ traceparent: bad, tracestate: 'a=b' });
      assert.equal(span.parent_span_id, null);
      assert.match(trace.trace_id, /-4/);
    });

  test('a path of a given trace id is percent-decoded once', async () => {
    const { trace } = await call({ 'x-portkey-trace-id': 'twice%2520' });
    assert.equal(trace.trace_id, 'twice%2520');
    assert.equal((await gateway.get('/v1/traces/twice%2520')).status, 404);
  });
});

describe('metadata', { concurrency: true }, () => {
  for (const [name, headers, body, expected] of [
    ['of the header', { 'x-portkey-metadata': '{"_user":"u1","env":"prod"}' }, {}, { _user: 'u1', env: 'prod' }],
    ['of baggage, below the header', { baggage: 'a=1,b=two%20words;prop=x', 'x-portkey-metadata': '{"a":"2"}' }, {}, { a: '2', b: 'two words' }],
    ['that is no JSON is empty, never an error', { 'x-portkey-metadata': "{'single':'quotes'}" }, {}, {}],
    ['that is no object is empty', { 'x-portkey-metadata': '[1]' }, {}, {}],
    ['takes the body’s user', {}, { user: 'u2' }, { _user: 'u2' }],
    ['wins over the body’s user', { 'x-portkey-metadata': '{"_user":"u1"}' }, { user: 'u2' }, { _user: 'u1' }],
    ['of other types becomes text', { 'x-portkey-metadata': '{"n":1,"b":true}' }, {}, { n: '1', b: 'true' }],
    ['of 200 characters keeps 128', { 'x-portkey-metadata': JSON.stringify({ long: 'ü'.repeat(200) }).replaceAll('ü', '\\u00fc') }, {}, { long: 'ü'.repeat(128) }],
  ])
    test(name, async () => {
      const { trace, span } = await call(headers, body);
      assert.deepEqual(trace.metadata, expected);
      assert.deepEqual(span.metadata, expected);
    });
});

describe('spans', { concurrency: true }, () => {
  test('of a retried, then rescued call tell the whole story', async () => {
    upstream.on('story/0', status(429, { headers: { 'retry-after-ms': '30' } }), status(500)).on('story/1', json(chat('saved'), { delay: 60 }));
    const response = await gateway.chat(config({
      strategy: { mode: 'fallback' },
      retry: { attempts: 1, use_retry_after_header: true },
      targets: [target(upstream, 'story/0'), target(upstream, 'story/1', { override_params: { model: 'gpt-4o' } })],
    }));
    const trace = await gateway.traceOf(response);
    const root = request(trace);
    const tries = attempts(trace);
    assert.deepEqual([trace.request_count, trace.attempt_count, trace.span_count, trace.error_count, trace.status, trace.rescued], [1, 3, 4, 2, 'ok', true]);
    assert.deepEqual(tries.map(({ attempt }) => attempt), [
      { index: 0, retry: 0, target: 'config.targets[0]', reason: 'first', wait_ms: 0, wait_reason: null },
      { index: 1, retry: 1, target: 'config.targets[0]', reason: 'retry', wait_ms: 30, wait_reason: 'retry-after' },
      { index: 2, retry: 0, target: 'config.targets[1]', reason: 'fallback', wait_ms: 0, wait_reason: null },
    ]);
    assert.deepEqual(tries.map(span => [span.status, span.status_code, span.error?.type ?? null]), [['error', 429, 'http_status'], ['error', 500, 'http_status'], ['ok', 200, null]]);
    assert.deepEqual(tries.map(span => [span.name, span.request_model, span.provider, span.operation]), [
      ['chat gpt-4o-mini', 'gpt-4o-mini', 'openai', 'chat'],
      ['chat gpt-4o-mini', 'gpt-4o-mini', 'openai', 'chat'],
      ['chat gpt-4o', 'gpt-4o', 'openai', 'chat'],
    ]);
    for (const span of tries) {
      assert.equal(span.parent_span_id, root.span_id);
      assert.ok(span.start_time >= root.start_time && span.end_time <= root.end_time && span.start_time <= span.end_time);
    }
    for (let index = 1; index < tries.length; index++) assert.ok(tries[index].start_time >= tries[index - 1].end_time);
    assert.ok(Date.parse(tries[1].start_time) - Date.parse(tries[0].end_time) >= 29);
    assert.ok(tries[2].duration_ms >= 58 && tries[2].time_to_first_byte_ms >= 58);
    assert.deepEqual([root.status, root.status_code, root.error, root.attempt ?? null], ['ok', 200, null, null]);
    assert.deepEqual([trace.providers, trace.duration_ms >= 90], [['openai'], true]);
    assert.ok(root.log_id && tries.every(span => span.log_id !== undefined));
    assert.deepEqual(root.bytes_in > 0 && root.bytes_out === response.body().length, true);
    assert.match(tries[0].error.message, /429|upstream says/);
    // The same numbers everywhere they are shown.
    const row = (await gateway.get('/v1/traces?limit=200')).json().data.find(row => row.trace_id === trace.trace_id);
    for (const field of ['request_count', 'span_count', 'attempt_count', 'error_count', 'cost_usd', 'status', 'rescued', 'duration_ms']) assert.deepEqual(row[field], trace[field], field);
    const logs = (await gateway.get(`/v1/logs?trace_id=${trace.trace_id}`)).json().data;
    assert.equal(logs.length, 4);
  });

  test('what leads nowhere ends as what the caller got', async () => {
    upstream.on('down', status(503));
    const response = await gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [target(upstream, 'down'), target(upstream, 'down')] }));
    const trace = await gateway.traceOf(response);
    assert.deepEqual([trace.status, trace.error_count, trace.rescued, trace.cost_usd === null || trace.cost_usd === 0], ['error', 3, false, true]);
    assert.deepEqual([request(trace).status, request(trace).status_code, request(trace).error.type], ['error', 503, 'http_status']);
  });

  test('times are RFC 3339 in UTC with milliseconds, near now', async () => {
    const { span, trace } = await call();
    for (const time of [span.start_time, span.end_time, trace.start_time]) {
      assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.ok(Math.abs(Date.parse(time) - Date.now()) < 120_000);
    }
    assert.equal(span.duration_ms, Date.parse(span.end_time) - Date.parse(span.start_time));
  });

  test('an unknown trace or log is a 404 with its own code', async () => {
    const [trace, log] = await Promise.all([gateway.get('/v1/traces/none'), gateway.get('/v1/logs/none')]);
    assert.deepEqual([trace.status, trace.json().error.code, log.status], [404, 'trace_not_found', 404]);
  });
});

describe('usage and cost', { concurrency: true }, () => {
  const near = (actual, expected) => assert.ok(Math.abs(actual - expected) < 1e-12, `${actual} is not ${expected}`);

  test('of a priced model, with cached tokens at their own price', async () => {
    upstream.on('cost', json(chat('x', { model: 'gpt-4o-mini-2024-07-18', usage: { prompt_tokens: 1000, completion_tokens: 200, total_tokens: 1200, prompt_tokens_details: { cached_tokens: 400 }, completion_tokens_details: { reasoning_tokens: 50 } } })));
    const response = await gateway.chat(to(upstream, 'cost'));
    const trace = await gateway.traceOf(response);
    const [attempt] = attempts(trace);
    assert.deepEqual([attempt.usage.input_tokens, attempt.usage.output_tokens, attempt.usage.cache_read_tokens, attempt.usage.reasoning_tokens, attempt.usage.total_tokens], [1000, 200, 400, 50, 1200]);
    assert.equal(attempt.usage_source, 'reported');
    assert.equal(attempt.response_model, 'gpt-4o-mini-2024-07-18');
    // 600 × 0.15 + 400 × 0.075 + 200 × 0.6 dollars a million.
    near(attempt.cost_usd, (600 * 0.15 + 400 * 0.075 + 200 * 0.6) / 1e6);
    near(trace.cost_usd, attempt.cost_usd);
    near(request(trace).cost_usd, attempt.cost_usd);
    assert.deepEqual([trace.cost_complete, trace.usage.input_tokens, trace.usage.total_tokens, trace.models.length], [true, 1000, 1200, 1]);
  });

  test('of an unknown model is null, not zero', async () => {
    upstream.on('unpriced', json(chat('x', { model: 'my-own-model' })));
    const response = await gateway.chat(to(upstream, 'unpriced'), { model: 'my-own-model' });
    const trace = await gateway.traceOf(response);
    assert.deepEqual([attempts(trace)[0].cost_usd, trace.cost_usd, trace.cost_complete], [null, null, false]);
    assert.equal(trace.usage.input_tokens, 1000);
  });

  test('that nobody reported is null, and its source none', async () => {
    upstream.on('no-usage', json({ ...chat(), usage: undefined }));
    const trace = await gateway.traceOf(await gateway.chat(to(upstream, 'no-usage')));
    const [attempt] = attempts(trace);
    assert.deepEqual([attempt.usage.input_tokens, attempt.usage.output_tokens, attempt.usage_source, attempt.cost_usd], [null, null, 'none', null]);
  });

  test('of a stream come from its usage event', async () => {
    upstream.on('stream-cost', sse(chatEvents('a b')));
    const trace = await gateway.traceOf(await gateway.chat(to(upstream, 'stream-cost'), { stream: true, stream_options: { include_usage: true } }));
    const [attempt] = attempts(trace);
    assert.deepEqual([attempt.usage.input_tokens, attempt.usage.output_tokens, attempt.stream], [1000, 200, true]);
    near(attempt.cost_usd, (1000 * 0.15 + 200 * 0.6) / 1e6);
  });

  test('of two calls add up to the trace', async () => {
    const headers = { 'x-portkey-trace-id': 'sum' };
    await Promise.all([1, 2].map(() => gateway.chat(to(upstream, 'ok', headers))));
    const trace = await gateway.settled('sum', 2);
    near(trace.cost_usd, (2 * (1000 * 0.15 + 200 * 0.6)) / 1e6);
    assert.equal(trace.usage.total_tokens, 2400);
  });

  test('of nonsense numbers do no harm', async () => {
    for (const [index, usage] of [{ prompt_tokens: -5, completion_tokens: 1e30 }, { prompt_tokens: '7', completion_tokens: null }, [], 'x', { prompt_tokens: 1.5 }].entries()) {
      upstream.on(`odd-usage-${index}`, json({ ...chat(), usage }));
      const response = await gateway.chat(to(upstream, `odd-usage-${index}`));
      assert.equal(response.status, 200);
      assert.equal(request(await gateway.traceOf(response)).status, 'ok');
    }
  });
});

describe('embeddings', { concurrency: true }, () => {
  const answer = { object: 'list', data: [{ object: 'embedding', index: 0, embedding: 'AACAPwAAAEA=' }], model: 'text-embedding-3-small', usage: { prompt_tokens: 8, total_tokens: 8 } };

  test('pass untouched to their own endpoint and are counted', async () => {
    upstream.on('emb', json(answer));
    const body = '{"input":[[1,2,3]],"model":"text-embedding-3-small","encoding_format":"base64"}';
    const response = await gateway.post('/v1/embeddings', body, to(upstream, 'emb'));
    assert.equal(response.text(), JSON.stringify(answer));
    const [seen] = upstream.requests('emb');
    assert.deepEqual([seen.path, seen.body.toString()], ['/emb/v1/embeddings', body]);
    const trace = await gateway.traceOf(response);
    const [attempt] = attempts(trace);
    assert.deepEqual([attempt.operation, attempt.name, attempt.usage.input_tokens, request(trace).name], ['embeddings', 'embeddings text-embedding-3-small', 8, 'POST /v1/embeddings']);
    assert.ok(Math.abs(attempt.cost_usd - 8 * 2e-8) < 1e-15);
  });

  test('of a provider that has none are refused, and a fallback goes on', async () => {
    upstream.on('emb2', json(answer));
    const anthropic = { provider: 'anthropic', api_key: 'k', custom_host: upstream.base('emb-anthropic') };
    const refused = await gateway.post('/v1/embeddings', { model: 'm', input: 'a' }, config(anthropic));
    assert.ok([400, 501].includes(refused.status), `${refused.status}`);
    const rescued = await gateway.post('/v1/embeddings', { model: 'm', input: 'a' }, config({ strategy: { mode: 'fallback' }, targets: [anthropic, target(upstream, 'emb2')] }));
    assert.equal(rescued.status, 200);
    assert.equal(upstream.requests('emb-anthropic').length, 0);
    assert.equal(attempts(await gateway.traceOf(rescued)).length, 1);
  });
});

describe('the mock provider', { concurrency: true }, () => {
  test('shows a new user a rescued call: two failures, then an answer', { timeout: 60_000 }, async () => {
    const response = await gateway.chat(config({
      strategy: { mode: 'fallback' },
      targets: [
        { provider: 'mock', retry: { attempts: 1 }, override_params: { model: 'mock-fail-503' } },
        { provider: 'mock', override_params: { model: 'mock-chat' } },
      ],
    }), { messages: [{ role: 'user', content: 'Hello' }] });
    assert.equal(response.status, 200);
    assert.match(response.json().choices[0].message.content, /You said: Hello/);
    const trace = await gateway.traceOf(response);
    assert.deepEqual(attempts(trace).map(span => [span.status_code, span.attempt.target, span.provider, span.attempt.wait_ms]), [
      [503, 'config.targets[0]', 'mock', 0],
      [503, 'config.targets[0]', 'mock', 1000],
      [200, 'config.targets[1]', 'mock', 0],
    ]);
    assert.equal(trace.rescued, true);
  });

  const mock = { 'x-portkey-provider': 'mock' };
  test('streams, and breaks when asked', async () => {
    const whole = await gateway.chat(mock, { model: 'mock-chat', stream: true });
    assert.match(whole.text(), /data: \[DONE\]\n\n$/);
    const cut = await gateway.chat(mock, { model: 'mock-cut-2', stream: true });
    assert.doesNotMatch(cut.text(), /\[DONE\]/);
    assert.match(cut.text(), /stream_truncated/);
    assert.equal(attempts(await gateway.traceOf(cut))[0].error.type, 'stream_truncated');
  });

  test('embeds, calls tools, is slow and limits its rate', async () => {
    assert.equal((await gateway.post('/v1/embeddings', { model: 'mock-embed', input: ['a', 'b'] }, mock)).json().data.length, 2);
    const tools = await gateway.chat(mock, { model: 'mock-tools', tools: [{ type: 'function', function: { name: 'now' } }] });
    assert.equal(tools.json().choices[0].message.tool_calls[0].function.name, 'now');
    assert.equal((await gateway.chat({ ...mock, 'x-portkey-request-timeout': '100' }, { model: 'mock-slow-5000' })).status, 408);
    const limited = await gateway.chat({ ...mock, ...config({ retry: { attempts: 1, use_retry_after_header: true } }) }, { model: 'mock-ratelimit-1' });
    assert.deepEqual([limited.status, limited.headers['x-portkey-retry-attempt-count']], [200, '1']);
  });

  test('does not exist where it is not enabled', async () => {
    const off = await startGateway({ vars: { ENABLE_MOCK_PROVIDER: null } });
    try {
      const response = await off.chat(mock, { model: 'mock-chat' });
      assert.deepEqual([response.status, response.json().error.code], [400, 'invalid_provider']);
    } finally {
      await off.stop();
    }
  });
});
