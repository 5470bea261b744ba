// Reading back in pages, and what a question must not be (query-api, head, §1 and §2).
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { config, startGateway, target, to } from './support/gateway.mjs';
import { chat, json, startUpstream, status } from './support/upstream.mjs';

const CALLS = 130;
const upstream = await startUpstream();
const gateway = await startGateway();
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const call = (trace, key = 'ok') => gateway.chat(to(upstream, key, { 'x-portkey-trace-id': trace }));
const list = async path => {
  const response = await gateway.get(path);
  assert.equal(response.status, 200, response.text());
  const page = response.json();
  assert.deepEqual(Object.keys(page).sort(), ['data', 'has_more', 'next_cursor', 'object']);
  assert.equal(page.object, 'list');
  assert.equal(page.has_more, page.next_cursor !== null);
  return page;
};
/** Every row of a list, page by page. */
async function pages(path, limit, between = () => {}) {
  const rows = [];
  for (let cursor = null; ; ) {
    const page = await list(`${path}${path.includes('?') ? '&' : '?'}limit=${limit}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`);
    assert.ok(page.data.length <= limit);
    rows.push(...page.data);
    if (!page.has_more) return rows;
    assert.equal(page.data.length, limit);
    cursor = page.next_cursor;
    await between();
  }
}

before(async () => {
  upstream.on('ok', json(chat())).on('bad', status(500));
  for (let at = 0; at < CALLS; at += 26) await Promise.all(Array.from({ length: 26 }, (_, index) => call(`page-${at + index}`)));
  await gateway.rest();
});

describe('a list', () => {
  test('of traces is newest first, in pages that miss nothing and repeat nothing, while calls go on', async () => {
    let more = 0;
    const rows = await pages('/v1/traces', 25, async () => {
      await call(`new-${more++}`);
      await call('page-0'); // an old trace becomes newer while it is being read
      await gateway.rest();
    });
    const ids = rows.map(row => row.trace_id).filter(id => id.startsWith('page-'));
    assert.equal(new Set(ids).size, ids.length, 'a trace came twice');
    assert.deepEqual([...ids].sort(), Array.from({ length: CALLS }, (_, index) => `page-${index}`).sort());
    assert.ok(more >= 5);
  });

  test('of logs holds every span once', async () => {
    const rows = await pages('/v1/logs', 47);
    const ids = rows.map(row => row.span_id);
    assert.equal(new Set(ids).size, ids.length);
    assert.ok(rows.length >= CALLS * 2);
    const starts = rows.map(row => row.start_time);
    assert.deepEqual(starts, [...starts].sort().reverse());
    assert.ok(rows.every(row => row.attributes === undefined && row.events === undefined));
  });

  test('is cut by from and to', async () => {
    const all = await pages('/v1/logs', 200);
    const middle = all[Math.floor(all.length / 2)].start_time;
    const [older, newer] = await Promise.all([pages(`/v1/logs?to=${middle}`, 200), pages(`/v1/logs?from=${middle}`, 200)]);
    assert.ok(older.every(row => row.start_time <= middle) && newer.every(row => row.start_time >= middle));
    assert.ok(older.length + newer.length >= all.length);
    assert.equal((await list('/v1/traces?from=2099-01-01T00:00:00Z')).data.length, 0);
  });

  test('of logs can be asked for one trace and one kind', async () => {
    upstream.on('two/0', status(500)).on('two/1', json(chat()));
    const response = await gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [target(upstream, 'two/0'), target(upstream, 'two/1')] }, { 'x-portkey-trace-id': 'one trace/a?' }));
    await gateway.traceOf(response);
    const path = '/v1/logs?trace_id=one%20trace%2Fa%3F';
    assert.equal((await list(path)).data.length, 3);
    assert.deepEqual((await list(`${path}&kind=attempt`)).data.map(row => row.attempt.index).sort(), [0, 1]);
    assert.equal((await list(`${path}&kind=request`)).data[0].log_id, response.headers['x-portkey-request-id']);
  });

  for (const [query, why] of [
    ['limit=0', 'too few'], ['limit=201', 'too many'], ['limit=x', 'no number'], ['limit=-1', 'negative'], ['limit=1e2', 'no whole number'], ['cursor=x', 'no cursor'], ['cursor=%00', 'no cursor'],
    ['from=yesterday', 'no time'], ['to=2026-13-45', 'no time'], ['nope=1', 'no such parameter'], ['limit=1&limit=2', 'twice'],
  ])
    test(`refuses ${query} (${why})`, async () => {
      for (const path of ['/v1/traces', '/v1/logs']) {
        const response = await gateway.get(`${path}?${query}`);
        assert.deepEqual([response.status, response.json().error.code], [400, 'invalid_query'], path);
      }
    });

  test('refuses what is planned with a 501 rather than ignoring it', async () => {
    for (const query of ['model=x', 'min_cost_usd=1', 'metadata.a=b', 'q=hello']) {
      const response = await gateway.get(`/v1/traces?${query}`);
      // Whoever builds one of these turns this into a test of it.
      assert.ok([200, 501].includes(response.status), `${query}: ${response.status}`);
    }
  });
});

test('every answer of the query API is JSON and readable by a page', async () => {
  for (const path of ['/v1/traces', '/v1/traces/none', '/v1/logs/none', '/v1/logs?limit=x', '/v1/accounting']) {
    const response = await gateway.get(path);
    assert.match(response.headers['content-type'], /^application\/json/, path);
    assert.ok(response.json());
    assert.ok(response.headers['access-control-allow-origin'], path);
  }
});
