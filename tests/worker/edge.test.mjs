// The outer face: health, CORS, routes that do not exist, a deployment without a key.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, describe, test } from 'node:test';
import { ADMIN_KEY, QUESTION, startGateway, to } from './support/gateway.mjs';
import { send } from './support/client.mjs';
import { chat, chatEvents, json, sse, startUpstream } from './support/upstream.mjs';

const upstream = await startUpstream();
const [gateway, keyless] = await Promise.all([startGateway(), startGateway({ vars: { GATEWAY_ADMIN_KEY: null } })]);
after(() => Promise.all([gateway.stop(), keyless.stop(), upstream.stop()]));

describe('health', () => {
  test('answers without a key', async () => {
    const response = await send(`${gateway.url}/health`, { method: 'GET' });
    assert.equal(response.status, 200);
    assert.match(response.headers['content-type'], /^application\/json/);
    const body = response.json();
    assert.equal(body.status, 'ok');
    assert.equal(typeof body.version, 'string');
  });
});

describe('CORS', () => {
  test('a preflight is answered without a key and allows the headers that SDKs send', async () => {
    const asked = ['authorization', 'content-type', 'x-portkey-api-key', 'x-portkey-provider', 'x-portkey-config', 'x-portkey-trace-id', 'x-stainless-lang'];
    const response = await send(`${gateway.url}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: { origin: 'https://app.example', 'access-control-request-method': 'POST', 'access-control-request-headers': asked.join(',') },
    });
    assert.ok([200, 204].includes(response.status), `status ${response.status}`);
    assert.ok(['*', 'https://app.example'].includes(response.headers['access-control-allow-origin']));
    assert.match(response.headers['access-control-allow-methods'], /\*|POST/);
    const allowed = response.headers['access-control-allow-headers'].toLowerCase().split(/\s*,\s*/);
    // A `*` does not cover authorization (Fetch standard).
    assert.ok(allowed.includes('authorization'));
    for (const name of asked) assert.ok(allowed.includes('*') || allowed.includes(name), `${name} in ${allowed}`);
  });

  test('answers and errors may be read by a page', async () => {
    upstream.on('cors', json(chat()));
    for (const headers of [to(upstream, 'cors'), { 'x-portkey-provider': 'nope' }, { 'x-portkey-api-key': 'wrong' }]) {
      const response = await gateway.chat({ origin: 'https://app.example', ...headers });
      assert.ok(['*', 'https://app.example'].includes(response.headers['access-control-allow-origin']), `status ${response.status}`);
      if (response.status === 401) continue; // it has nothing to expose
      assert.match(response.headers['access-control-expose-headers'] ?? '', /\*|x-portkey-trace-id/i, `status ${response.status}`);
    }
  });
});

describe('routes', () => {
  test('an unknown path is a JSON 404', async () => {
    for (const path of ['/nope', '/', '/v2/chat/completions']) {
      const response = await gateway.get(path);
      if (path === '/' && response.status === 200) continue; // may greet
      assert.equal(response.status, 404, path);
      const body = response.json();
      assert.equal(body.message, 'Not Found');
      assert.equal(body.ok, false);
      assert.equal(body.error.code, 'not_found');
    }
  });

  test('a wrong method is a 405 that names the right one', async () => {
    for (const [method, path, allow] of [
      ['GET', '/v1/chat/completions', 'POST'],
      ['PUT', '/v1/embeddings', 'POST'],
      ['POST', '/health', 'GET'],
    ]) {
      const response = await send(gateway.url + path, { method, headers: { 'x-portkey-api-key': ADMIN_KEY } });
      assert.equal(response.status, 405, `${method} ${path}`);
      assert.match(response.headers.allow, new RegExp(allow));
      assert.equal(response.json().error.code, 'method_not_allowed');
    }
  });

  test('HEAD of health has no body', async () => {
    const response = await send(`${gateway.url}/health`, { method: 'HEAD' });
    assert.ok([200, 405].includes(response.status));
    assert.equal(response.body().length, 0);
  });
});

test('answers of every kind keep their bounds on one kept connection', async () => {
  upstream.on('kept', json(chat())).on('kept-error', json('{"error":{}}', { status: 500 })).on('kept-stream', sse(chatEvents('a b')));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const body = JSON.stringify({ ...QUESTION, filler: 'x'.repeat(100_000) });
  const call = (key, text = body) =>
    new Promise((done, fail) => {
      const request = http.request(`${gateway.url}/v1/chat/completions`, { method: 'POST', agent, headers: { 'content-type': 'application/json', 'x-portkey-api-key': ADMIN_KEY, ...to(upstream, key) } }, async response => {
        const chunks = [];
        for await (const chunk of response) chunks.push(chunk);
        done([response.statusCode, Buffer.concat(chunks).toString()]);
      });
      request.on('error', fail);
      request.end(text);
    });
  for (let round = 0; round < 5; round++) {
    assert.deepEqual(await call('kept'), [200, JSON.stringify(chat())]);
    assert.equal((await call('kept', '{'))[0], 400);
    assert.deepEqual(await call('kept-stream'), [200, chatEvents('a b').join('')]);
    assert.deepEqual(await call('kept-error'), [500, '{"error":{}}']);
  }
  agent.destroy();
});

describe('a deployment without GATEWAY_ADMIN_KEY', () => {
  test('says on every keyed route how to set one, and lets nobody in', async () => {
    const headers = { 'content-type': 'application/json', ...to(upstream, 'keyless') };
    for (const [method, path, body] of [
      ['POST', '/v1/chat/completions', JSON.stringify(QUESTION)],
      ['POST', '/v1/embeddings', '{}'],
      ['GET', '/v1/traces'],
      ['GET', '/v1/logs/x'],
      ['GET', '/v1/accounting'],
    ]) {
      for (const key of [{}, { 'x-portkey-api-key': '' }, { 'x-portkey-api-key': 'undefined' }, { 'x-portkey-api-key': ADMIN_KEY }]) {
        const response = await send(keyless.url + path, { method, headers: { ...headers, ...key }, body });
        assert.equal(response.status, 503, path);
        assert.equal(response.json().error.code, 'not_configured');
        assert.match(response.json().message, /GATEWAY_ADMIN_KEY/);
      }
    }
    assert.equal(upstream.requests('keyless').length, 0);
  });

  test('is healthy', async () => {
    assert.equal((await keyless.get('/health')).status, 200);
  });
});
