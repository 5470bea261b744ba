// Parameters that a config adds are spliced into the client's bytes (protocol §1.10 C4, §2.2; architecture decision 1).
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { attempts, config, startGateway, target } from './support/gateway.mjs';
import { chat, json, startUpstream, status } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway();
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const BODY = '{"seed": 12345678901234567890 , "model":"gpt-4o",\n "messages":[{"role":"user","content":"\\u00e9 \\/"}], "temperature":1.50,"x":{"b":1,"a":2}}';

async function sent(key, more, body = BODY) {
  upstream.on(key, json(chat()));
  const response = await gateway.chat(config(target(upstream, key, more)), Buffer.from(body));
  assert.equal(response.status, 200, response.text());
  return { text: upstream.requests(key)[0].body.toString(), response };
}

describe('override_params', { concurrency: true }, () => {
  test('replace a value and leave every other byte alone', async () => {
    const { text, response } = await sent('model', { override_params: { model: 'gpt-4o-mini' } });
    assert.equal(text, BODY.replace('"gpt-4o"', '"gpt-4o-mini"'));
    const [attempt] = attempts(await gateway.traceOf(response));
    assert.equal(attempt.request_model, 'gpt-4o-mini');
    assert.equal(attempt.name, 'chat gpt-4o-mini');
  });

  test('add what is missing and keep the rest', async () => {
    const { text } = await sent('add', { override_params: { max_tokens: 5, stop: ['a', 'b'], temperature: 0 } });
    assert.ok(text.includes('12345678901234567890 ,') && text.includes('"\\u00e9 \\/"') && text.includes('"x":{"b":1,"a":2}'), text);
    const body = JSON.parse(text);
    assert.deepEqual([body.max_tokens, body.stop, body.temperature, body.model], [5, ['a', 'b'], 0, 'gpt-4o']);
  });

  test('into an empty object', async () => {
    const { text } = await sent('empty', { override_params: { model: 'm' } }, ' { } ');
    assert.deepEqual(JSON.parse(text), { model: 'm' });
  });

  test('reach the key however it is escaped', async () => {
    const { text } = await sent('escaped', { override_params: { model: 'gpt-4o-mini' } }, '{"mod\\u0065l":"gpt-4o","messages":[]}');
    assert.equal(JSON.parse(text).model, 'gpt-4o-mini');
  });

  test('do not touch the same name deeper down or inside text', async () => {
    const body = '{"messages":[{"role":"user","content":"\\"model\\":\\"gpt-4o\\"","model":"inner"}],"model":"gpt-4o"}';
    const { text } = await sent('deep', { override_params: { model: 'gpt-4o-mini' } }, body);
    assert.equal(text, body.replace(/"gpt-4o"}$/, '"gpt-4o-mini"}'));
  });

  test('merge down the tree, the leaf winning', async () => {
    upstream.on('merge/0', status(500)).on('merge/1', json(chat()));
    await gateway.chat(config({
      strategy: { mode: 'fallback' },
      override_params: { model: 'root', user: 'root' },
      targets: [target(upstream, 'merge/0', { override_params: { model: 'leaf' } }), target(upstream, 'merge/1')],
    }));
    assert.deepEqual(upstream.requests('merge').map(entry => JSON.parse(entry.body)).map(({ model, user }) => [model, user]), [['leaf', 'root'], ['root', 'root']]);
  });

  test('of one target do not leak into the next', async () => {
    upstream.on('leak/0', status(500)).on('leak/1', json(chat()));
    await gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [target(upstream, 'leak/0', { override_params: { model: 'other', top_p: 1 } }), target(upstream, 'leak/1')] }), Buffer.from(BODY));
    assert.equal(upstream.requests('leak/1')[0].body.toString(), BODY);
  });
});

describe('default_params and drop_params', { concurrency: true }, () => {
  test('a default fills a gap and yields to the client', async () => {
    const { text } = await sent('default', { default_params: { temperature: 0.1, top_p: 0.5 } });
    const body = JSON.parse(text);
    assert.deepEqual([body.temperature, body.top_p], [1.5, 0.5]);
    assert.ok(text.includes('1.50'));
  });

  test('drop comes last, and a missing path is ignored', async () => {
    const body = '{"model":"m","tools":[{"function":{"name":"a","strict":true}},{"function":{"name":"b","strict":false}}],"seed":12345678901234567890,"user":"u"}';
    const { text } = await sent('drop', { override_params: { user: 'v' }, drop_params: ['tools[*].function.strict', 'user', 'not.there', 'tools[7].x'] }, body);
    assert.deepEqual(JSON.parse(text.replace('12345678901234567890', '0')), { model: 'm', tools: [{ function: { name: 'a' } }, { function: { name: 'b' } }], seed: 0 });
    assert.ok(text.includes('12345678901234567890'));
  });
});
