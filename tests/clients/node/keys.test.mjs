// Which key goes where (protocol §1.10; checklist 31–37, 138–140): to the upstream the provider's, to nobody the gateway's.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, describe, test } from 'node:test';
import OpenAI from 'openai';
import { Portkey } from 'portkey-ai';
import { arrived, LIBRARIES, QUESTION, read, recorded, scene, world } from './support.mjs';

/** A question that can be found again among all that reached OpenAI's host. */
const marked = () => ({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: `ping ${randomUUID()}` }] });
const arrivedFor = async body => (await arrived(world.openaiHost)).filter(request => JSON.stringify(request.body).includes(body.messages[0].content));

/** Whatever else went along, nothing of the gateway's did. */
function onlyTheProviders(request, key) {
  assert.equal(request.headers.authorization, `Bearer ${key}`);
  const names = Object.keys(request.headers);
  assert.deepEqual(names.filter(name => /^x-(portkey|stainless)-|^traceparent$/.test(name)), []);
  assert.ok(!JSON.stringify(request).includes(world.adminKey));
}

describe('the gateway key as the only key, as MLflow has it', () => {
  const client = new OpenAI({ baseURL: world.deployed, apiKey: world.adminKey, maxRetries: 0, defaultHeaders: { 'x-portkey-provider': 'openai' } });

  test('answers', async () => {
    const body = marked();
    const { data, response } = await client.chat.completions.create(body).withResponse();
    assert.equal(data.choices[0].message.content, body.messages[0].content);
    const [request] = await arrivedFor(body);
    onlyTheProviders(request, world.deploymentKey);
    const { trace } = await recorded(response.headers.get('x-portkey-trace-id'), { base: world.deployed });
    assert.deepEqual([trace.status, trace.attempt_count], ['ok', 1]);
    assert.ok(!JSON.stringify(trace).includes(world.deploymentKey));
  });

  test('streams', async () => {
    const body = { ...marked(), stream: true, stream_options: { include_usage: true } };
    const { data, response } = await client.chat.completions.create(body).withResponse();
    const told = await read(data);
    assert.equal(told.text, body.messages[0].content);
    assert.equal(told.usage.total_tokens, 1200);
    onlyTheProviders((await arrivedFor(body))[0], world.deploymentKey);
    const { calls } = await recorded(response.headers.get('x-portkey-trace-id'), { base: world.deployed });
    assert.deepEqual([calls[0].status, calls[0].stream], ['ok', true]);
  });

  test('is enough when the library finds it and the URL in the environment', async () => {
    environment({ OPENAI_API_KEY: world.adminKey, OPENAI_BASE_URL: world.deployed });
    const body = marked();
    await new OpenAI({ defaultHeaders: { 'x-portkey-provider': 'openai' } }).chat.completions.create(body);
    onlyTheProviders((await arrivedFor(body))[0], world.deploymentKey);
  });
});

for (const { name, connect } of LIBRARIES)
  test(`${name}: the caller’s provider key reaches the upstream, and nothing of ours`, async () => {
    const at = await scene('openai');
    await connect({ ...at.options, metadata: { a: 'b' } }).chat.completions.create(QUESTION);
    onlyTheProviders((await at.requests())[0], 'sk-upstream');
  });

describe('portkey-ai', () => {
  const options = { apiKey: world.adminKey, baseURL: world.deployed, provider: 'openai' };

  for (const [what, call] of [
    ['create', (client, body) => client.chat.completions.create(body)],
    ['stream', async (client, body) => (await client.chat.completions.stream(body)).finalChatCompletion()],
    ['parse', (client, body) => client.chat.completions.parse(body)],
  ])
    test(`${what} without a provider key uses the deployment’s`, async () => {
      const body = marked();
      const answer = await call(new Portkey(options), body);
      assert.equal(answer.choices[0].message.content, body.messages[0].content);
      onlyTheProviders((await arrivedFor(body))[0], world.deploymentKey);
    });

  test('a key in the config wins', async () => {
    const at = await scene('openai');
    const config = { provider: 'openai', custom_host: at.base, api_key: 'sk-config' };
    await new Portkey({ apiKey: world.adminKey, baseURL: world.gateway, Authorization: 'Bearer sk-header', config }).chat.completions.create(QUESTION);
    onlyTheProviders((await at.requests())[0], 'sk-config');
  });

  test('the base URL is found in the environment', async () => {
    environment({ PORTKEY_BASE_URL: world.deployed, PORTKEY_API_KEY: world.adminKey });
    const body = marked();
    await new Portkey({ provider: 'openai' }).chat.completions.create(body);
    onlyTheProviders((await arrivedFor(body))[0], world.deploymentKey);
  });
});

function environment(variables) {
  Object.assign(process.env, variables);
  after(() => Object.keys(variables).forEach(name => delete process.env[name]));
}
