// What works: answers, streams, tools, embeddings (protocol §6.1, §6.3).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LIBRARIES, QUESTION, read, recordedAs, scene, shows, TEXT, TOOLS } from './support.mjs';

const USAGE = { input_tokens: 1000, output_tokens: 200 };
const STREAM = { ...QUESTION, stream: true };
const WITH_USAGE = { ...STREAM, stream_options: { include_usage: true } };

for (const { name, connect, headers } of LIBRARIES)
  for (const [provider, model] of [['openai', 'gpt-4o-mini'], ['anthropic', 'claude-sonnet-4-5']])
    describe(`${name} to ${provider}`, { concurrency: true }, () => {
      test('a chat answers', async () => {
        const at = await scene(provider);
        const call = connect(at.options).chat.completions.create({ ...QUESTION, model });
        const answer = await call;
        assert.equal(answer.choices[0].message.content, TEXT);
        assert.equal(answer.choices[0].finish_reason, 'stop');
        shows(answer.usage, { prompt_tokens: 1000, completion_tokens: 200, total_tokens: 1200 });
        shows(await headers(call), { 'x-portkey-trace-id': at.traceId, 'x-portkey-provider': provider, 'x-portkey-last-used-option-index': 'config', 'x-portkey-retry-attempt-count': '0' });
        const { trace, calls, attempts, log } = await recordedAs(at, { operation: 'chat', stream: false, usage: USAGE });
        assert.deepEqual(trace.providers, [provider]);
        assert.ok(trace.cost_usd > 0, `cost ${trace.cost_usd}`);
        shows(attempts[0], { provider, request_model: model, response_model: answer.model, attempt: { index: 0, retry: 0, target: 'config', reason: 'first' } });
        const { request, response } = await log(calls[0]);
        shows(request.body, { ...QUESTION, model });
        assert.equal(response.body.choices[0].message.content, TEXT);
        assert.equal((await at.requests()).length, 1);
      });

      test('a stream arrives in pieces, without a usage that nobody asked for', async () => {
        const at = await scene(provider);
        const told = await read(await connect(at.options).chat.completions.create({ ...STREAM, model }));
        assert.equal(told.text, TEXT);
        assert.equal(told.finish, 'stop');
        assert.ok(told.chunks.length >= 4);
        assert.equal(told.usage, null);
        assert.ok(told.chunks.every(chunk => chunk.object === 'chat.completion.chunk' && chunk.choices.length === 1));
        const { calls, attempts, log } = await recordedAs(at, { operation: 'chat', stream: true });
        assert.ok(attempts[0].time_to_first_token_ms >= 0);
        assert.equal((await log(calls[0])).response.body.choices[0].message.content, TEXT);
      });

      test('a stream ends in its usage when it was asked for', async () => {
        const at = await scene(provider);
        const told = await read(await connect(at.options).chat.completions.create({ ...WITH_USAGE, model }));
        assert.equal(told.text, TEXT);
        shows(told.chunks.at(-1), { choices: [], usage: { prompt_tokens: 1000, completion_tokens: 200, total_tokens: 1200 } });
        const { trace, attempts } = await recordedAs(at, { stream: true, usage: USAGE });
        assert.equal(attempts[0].usage_source, 'reported');
        assert.ok(trace.cost_usd > 0);
      });

      for (const stream of [false, true])
        test(`tools are called and answered${stream ? ' in streams' : ''}`, async () => {
          const at = await scene(provider);
          const { completions } = connect(at.options).chat;
          const ask = async messages => {
            const answer = await completions.create({ model, messages, tools: TOOLS, stream });
            if (stream) return read(answer);
            const [{ message, finish_reason }] = answer.choices;
            return { tools: message.tool_calls, text: message.content, finish: finish_reason };
          };
          const first = await ask(QUESTION.messages);
          assert.equal(first.finish, 'tool_calls');
          assert.deepEqual(first.tools.map(call => [call.type, call.function.name, JSON.parse(call.function.arguments)]), [['function', 'get_weather', { city: 'Łódź "north"' }], ['function', 'get_time', {}]]);
          const ids = first.tools.map(call => call.id);
          const second = await ask([
            ...QUESTION.messages,
            { role: 'assistant', content: null, tool_calls: first.tools },
            ...['7 °C', '12:30'].map((content, index) => ({ role: 'tool', tool_call_id: ids[index], content })),
          ]);
          assert.deepEqual([second.text, second.finish], [`${ids[0]}: 7 °C; ${ids[1]}: 12:30`, 'stop']);
          const { calls, log } = await recordedAs(at, { calls: 2, stream });
          const { message } = (await log(calls[0])).response.body.choices[0];
          assert.deepEqual(message.tool_calls.map(call => call.function.name), ['get_weather', 'get_time']);
          assert.equal((await log(calls[1])).response.body.choices[0].message.content, second.text);
        });
    });

for (const { name, connect } of LIBRARIES)
  test(`${name}: embeddings arrive as numbers, in the encoding that the library chose`, async () => {
    const at = await scene('openai');
    const answer = await connect(at.options).embeddings.create({ model: 'text-embedding-3-small', input: ['one', 'two'] });
    assert.deepEqual(answer.data.map(row => [...row.embedding]), [[0.5, -0.25, 1, 0], [0.5, -0.25, 1, 1]]);
    const [{ path, body }] = await at.requests();
    assert.ok(path.endsWith('/v1/embeddings'));
    assert.equal(body.encoding_format, name === 'openai' ? 'base64' : undefined);
    const { attempts } = await recordedAs(at, { operation: 'embeddings', stream: false });
    shows(attempts[0], { request_model: 'text-embedding-3-small', usage: { input_tokens: 8 } });
  });
