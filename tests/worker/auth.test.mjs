// Who gets in, and which key travels on (protocol §1.10, checklist 31–37).
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ADMIN_KEY, config, QUESTION, startGateway, target } from './support/gateway.mjs';
import { send } from './support/client.mjs';
import { chat, json, startUpstream } from './support/upstream.mjs';

const upstream = await startUpstream();
/** Whatever goes to api.openai.com lands at our upstream, under the key `openai`. */
const elsewhere = async request => {
  const url = new URL(request.url);
  const there = url.hostname === 'api.openai.com' ? `${upstream.origin}/openai${url.pathname}` : request.url;
  return fetch(there, { method: request.method, headers: request.headers, body: request.body, duplex: 'half' });
};
const gateway = await startGateway({ vars: { OPENAI_API_KEY: 'sk-deployment' }, outboundService: elsewhere });
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const openai = { 'x-portkey-provider': 'openai' };
const key = { 'x-portkey-api-key': ADMIN_KEY };
const bearer = token => ({ authorization: `Bearer ${token}` });
const call = headers => send(`${gateway.url}/v1/chat/completions`, { headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(QUESTION) });

describe('gateway key', () => {
  for (const [name, headers] of [
    ['none', {}],
    ['a wrong one', { 'x-portkey-api-key': 'wrong' }],
    ['a wrong one beside a right bearer', { 'x-portkey-api-key': 'wrong', ...bearer(ADMIN_KEY) }],
    ['a provider key as bearer', bearer('sk-provider')],
    ['a prefix of it', { 'x-portkey-api-key': ADMIN_KEY.slice(0, -1) }],
    ['more than it', { 'x-portkey-api-key': `${ADMIN_KEY}x` }],
  ])
    test(`${name} is refused with a readable 401`, async () => {
      for (const path of ['/v1/chat/completions', '/v1/embeddings']) {
        const response = await send(gateway.url + path, { headers: { 'content-type': 'application/json', ...openai, ...headers }, body: '{}' });
        assert.equal(response.status, 401);
        assert.equal(response.json().error.code, 'invalid_api_key');
        assert.equal(typeof response.json().error.message, 'string');
        assert.equal(response.json().status, 'failure');
      }
      for (const path of ['/v1/traces', '/v1/traces/x', '/v1/logs', '/v1/logs/x', '/v1/accounting'])
        assert.equal((await send(gateway.url + path, { method: 'GET', headers })).status, 401, path);
    });

  test('opens the query API as header and as bearer', async () => {
    for (const headers of [key, bearer(ADMIN_KEY)]) {
      const response = await send(`${gateway.url}/v1/traces`, { method: 'GET', headers });
      assert.equal(response.status, 200);
    }
  });
});

describe('the key that goes upstream', () => {
  for (const [name, headers, expected] of [
    ['is the deployment’s when only the gateway key comes, as bearer', bearer(ADMIN_KEY), 'Bearer sk-deployment'],
    ['is the deployment’s when only the gateway key comes, as header', key, 'Bearer sk-deployment'],
    ['is the caller’s bearer beside the gateway key', { ...key, ...bearer('sk-caller') }, 'Bearer sk-caller'],
    ['gets its Bearer when the caller left it out', { ...key, authorization: 'sk-caller' }, 'Bearer sk-caller'],
    ['is never the SDK placeholder OPENAI_API_KEY', { ...key, ...bearer('OPENAI_API_KEY') }, 'Bearer sk-deployment'],
    ['is never the SDK placeholder DUMMY-KEY', { ...key, ...bearer('DUMMY-KEY') }, 'Bearer sk-deployment'],
    ['is never the gateway key', { ...key, ...bearer(ADMIN_KEY) }, 'Bearer sk-deployment'],
    ['is the config’s, whatever the bearer', { ...key, ...bearer('sk-caller'), ...config({ provider: 'openai', api_key: 'sk-config' }) }, 'Bearer sk-config'],
    ['is not the caller’s where the config names the provider', { ...key, ...bearer('sk-caller'), ...config({ provider: 'openai' }) }, 'Bearer sk-deployment'],
    ['is the caller’s where the config names none', { ...key, ...bearer('sk-caller'), ...openai, ...config({ retry: { attempts: 0 } }) }, 'Bearer sk-caller'],
  ])
    test(name, async () => {
      upstream.on('openai', json(chat()));
      const before = upstream.requests('openai').length;
      const response = await call({ ...openai, ...headers });
      assert.equal(response.status, 200, response.text());
      const seen = upstream.requests('openai').slice(before);
      assert.equal(seen.length, 1);
      assert.equal(seen[0].headers.authorization, expected);
      assert.equal(seen[0].path, '/openai/v1/chat/completions');
      assert.ok(!JSON.stringify(seen[0].rawHeaders).includes(ADMIN_KEY), 'gateway key upstream');
    });

  test('is never the deployment’s when the caller chooses the host', async () => {
    upstream.on('own-host', json(chat()));
    const { api_key: _, ...keyless } = target(upstream, 'own-host');
    for (const headers of [{ ...openai, 'x-portkey-custom-host': upstream.base('own-host') }, config(keyless), config({ strategy: { mode: 'fallback' }, targets: [keyless] })]) {
      await call({ ...key, ...headers });
      await call({ ...bearer(ADMIN_KEY), ...headers });
    }
    const seen = JSON.stringify(upstream.requests('own-host').map(entry => entry.rawHeaders));
    assert.ok(!seen.includes('sk-deployment'), seen);
    assert.ok(!seen.includes(ADMIN_KEY), seen);
  });
});

describe('provider', () => {
  test('of the config beats the header’s', async () => {
    upstream.on('b1', json(chat()));
    const response = await call({ ...key, 'x-portkey-provider': 'anthropic', ...config(target(upstream, 'b1')) });
    assert.equal(response.status, 200);
    assert.equal(response.headers['x-portkey-provider'], 'openai');
    assert.equal(upstream.requests('b1')[0].path, '/b1/v1/chat/completions');
  });

  test('of the header holds for a config that names none', async () => {
    upstream.on('b2', json(chat()));
    const response = await call({ ...key, ...openai, ...bearer('sk-b2'), 'x-portkey-custom-host': upstream.base('b2'), ...config({ retry: { attempts: 1 } }) });
    assert.equal(response.status, 200);
    assert.equal(upstream.requests('b2')[0].headers.authorization, 'Bearer sk-b2');
  });

  test('with no key anywhere is a 401 that names the secret to set', async () => {
    const response = await call({ ...key, 'x-portkey-provider': 'anthropic' });
    assert.equal(response.status, 401);
    assert.equal(response.json().error.code, 'missing_provider_key');
    assert.match(response.json().message, /ANTHROPIC_API_KEY/);
  });
});
