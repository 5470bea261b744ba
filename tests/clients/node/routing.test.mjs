// Who retries: the gateway when it is told to, the library when it was not, never both (protocol §1.11; checklist 141, 142).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LIBRARIES, QUESTION, scene, shows, thrown } from './support.mjs';

/** What openai does by itself; portkey-ai's own habit cannot be changed. */
const HABIT = 2;

for (const { name, connect, errors, headers } of LIBRARIES)
  describe(name, { concurrency: true }, () => {
    const completions = options => connect({ maxRetries: HABIT, ...options }).chat.completions;

    test('nobody retries after the gateway gave up', async () => {
      const at = await scene('openai-500');
      const config = { provider: 'openai', custom_host: at.base, api_key: 'sk-upstream', retry: { attempts: 1 } };
      const error = await thrown(completions({ traceId: at.traceId, config }).create(QUESTION));
      assert.ok(error instanceof errors.InternalServerError, String(error));
      assert.equal((await at.requests()).length, 2);
      const { trace, calls, attempts } = await at.recorded();
      assert.deepEqual([trace.request_count, trace.attempt_count, trace.status], [1, 2, 'error']);
      shows(calls[0], { status: 'error', status_code: 500 });
      assert.deepEqual(attempts.map(span => [span.attempt.index, span.attempt.retry, span.attempt.reason, span.status_code]), [[0, 0, 'first', 500], [1, 1, 'retry', 500]]);
      assert.ok(attempts[1].attempt.wait_ms >= 900);
    });

    test(`without a retry config ${name === 'openai' ? 'the library retries, and every try is a call of the trace' : 'nobody retries'}`, async () => {
      const at = await scene('openai-500');
      const error = await thrown(completions(at.options).create(QUESTION));
      assert.ok(error instanceof errors.InternalServerError, String(error));
      const tries = name === 'openai' ? 1 + HABIT : 1;
      assert.equal((await at.requests()).length, tries);
      const { trace } = await at.recorded(tries);
      assert.deepEqual([trace.request_count, trace.attempt_count], [tries, tries]);
    });

    test('a retry that helps is seen in headers and trace alone', async () => {
      const at = await scene('openai-503', 'openai');
      const config = { provider: 'openai', custom_host: at.base, api_key: 'sk-upstream', retry: { attempts: 2 } };
      const call = completions({ traceId: at.traceId, config }).create(QUESTION);
      assert.equal((await call).object, 'chat.completion');
      shows(await headers(call), { 'x-portkey-retry-attempt-count': '1' });
      const { trace, attempts } = await at.recorded();
      shows(trace, { status: 'ok', rescued: true, attempt_count: 2, error_count: 1 });
      assert.deepEqual(attempts.map(span => span.status), ['error', 'ok']);
    });

    test('a fallback answers in place of the first target', async () => {
      const [bad, good] = await Promise.all([scene('openai-429'), scene('anthropic')]);
      const target = (provider, at) => ({ provider, custom_host: at.base, api_key: 'sk-upstream' });
      const config = { strategy: { mode: 'fallback' }, targets: [target('openai', bad), { ...target('anthropic', good), override_params: { model: 'claude-sonnet-4-5' } }] };
      const call = completions({ traceId: good.traceId, config }).create(QUESTION);
      assert.equal((await call).choices[0].message.content, QUESTION.messages[0].content);
      shows(await headers(call), { 'x-portkey-last-used-option-index': 'config.targets[1]', 'x-portkey-provider': 'anthropic' });
      const { trace, attempts } = await good.recorded();
      shows(trace, { status: 'ok', rescued: true, request_count: 1 });
      assert.deepEqual(attempts.map(span => [span.provider, span.attempt.target, span.attempt.reason, span.status_code]), [['openai', 'config.targets[0]', 'first', 429], ['anthropic', 'config.targets[1]', 'fallback', 200]]);
    });
  });
