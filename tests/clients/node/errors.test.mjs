// What fails, and how a user of the library learns of it (protocol §2.6, §2.11, §6.3; checklist 35, 53).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LIBRARIES, QUESTION, read, readBroken, recordedAs, scene, shows, thrown, world } from './support.mjs';

const CLASSES = {
  400: ['BadRequestError', 'maximum context length'],
  401: ['AuthenticationError', 'Incorrect API key provided'],
  403: ['PermissionDeniedError', 'territory not supported'],
  404: ['NotFoundError', 'does not exist'],
  409: ['ConflictError', 'updated by another request'],
  422: ['UnprocessableEntityError', 'could not be processed'],
  429: ['RateLimitError', 'Rate limit reached'],
  500: ['InternalServerError', 'had an error while processing'],
  503: ['InternalServerError', 'currently overloaded'],
};
const STREAM = { ...QUESTION, stream: true };

for (const { name, connect, errors } of LIBRARIES)
  describe(name, { concurrency: true }, () => {
    const ask = (options, body = QUESTION) => connect(options).chat.completions.create(body);
    const isA = (error, kind, ...parts) => {
      assert.ok(error instanceof errors[kind], `${error?.constructor?.name} instead of ${kind}: ${error}`);
      for (const part of parts) assert.ok(error.message.includes(part), `"${part}" is not in: ${error.message}`);
    };

    for (const [status, [kind, message]] of Object.entries(CLASSES))
      for (const body of [QUESTION, STREAM])
        test(`the upstream’s ${status} is a ${kind}${body.stream ? ' of a stream' : ''}`, async () => {
          const at = await scene(`openai-${status}`);
          const error = await thrown(ask(at.options, body));
          isA(error, kind, message);
          assert.equal(error.status, Number(status));
          assert.equal((await at.requests()).length, 1);
          await recordedAs(at, { status: 'error', code: Number(status), error: 'http_status', message });
        });

    // 529 is Anthropic's own; in OpenAI's language it is 503.
    for (const [status, code, kind, message] of [[429, 429, 'RateLimitError', 'Too many requests for your plan'], [529, 503, 'InternalServerError', 'Overloaded']])
      test(`Anthropic’s ${status} is a ${kind}`, async () => {
        const at = await scene(`anthropic-${status}`);
        const error = await thrown(ask(at.options));
        isA(error, kind, message);
        assert.equal(error.status, code);
        await recordedAs(at, { status: 'error', code, upstreamCode: status, error: 'http_status', message });
      });

    test('a wrong gateway key is an AuthenticationError that says which key', async () => {
      const at = await scene('openai');
      isA(await thrown(ask({ ...at.options, gatewayKey: 'wrong' })), 'AuthenticationError', 'gateway key');
      assert.deepEqual(await at.requests(), []);
    });

    test('an invalid config is a BadRequestError that says where', async () => {
      const at = await scene('openai');
      const config = { strategy: { mode: 'random' }, targets: [{ provider: 'openai', custom_host: at.base, weight: 'heavy' }] };
      isA(await thrown(ask({ ...at.options, config })), 'BadRequestError', 'strategy.mode');
      assert.deepEqual(await at.requests(), []);
      await recordedAs(at, { status: 'error', code: 400, error: 'config', attempts: 0 });
    });

    test('an unknown provider is a BadRequestError that names it', async () => {
      const at = await scene('openai');
      isA(await thrown(ask({ ...at.options, provider: 'openia' })), 'BadRequestError', 'openia');
      await recordedAs(at, { status: 'error', code: 400, error: 'config', attempts: 0 });
    });

    test('an upstream that is too slow is a 408 that says how long', async () => {
      const at = await scene('silent');
      const error = await thrown(ask({ ...at.options, requestTimeout: 300 }));
      isA(error, 'APIError', '300 ms');
      assert.equal(error.status, 408);
      await recordedAs(at, { status: 'error', code: 408, error: 'timeout' });
    });

    test('an upstream that is not there is an InternalServerError', async () => {
      const at = await scene('openai');
      isA(await thrown(ask({ ...at.options, customHost: world.refusing })), 'InternalServerError', 'could not be reached');
      await recordedAs(at, { status: 'error', code: 503, error: 'connect' });
    });

    if (name === 'openai')
      test('a caller who does not wait is told so, and recorded once', async () => {
        const at = await scene('openai-slow');
        isA(await thrown(ask({ ...at.options, timeout: 300 })), 'APIConnectionTimeoutError');
        // Workerd on its own does not tell that a caller left who was not being written to; the platform does.
        const { trace, calls } = await at.recorded();
        assert.deepEqual([trace.request_count, trace.attempt_count], [1, 1]);
        assert.ok(['cancelled', 'ok'].includes(calls[0].status), calls[0].status);
      });

    test('a caller who stops reading lets the upstream go, and is recorded as gone', async () => {
      const at = await scene('openai-long');
      let chunks = 0;
      for await (const _ of await ask(at.options, STREAM)) if (++chunks === 5) break;
      const { calls, attempts } = await at.recorded();
      assert.deepEqual([calls.length, attempts.length], [1, 1]);
      for (const span of [...calls, ...attempts]) shows(span, { status: 'cancelled', error: { type: 'client_disconnected' } });
      const [{ abandoned }] = await at.requests();
      assert.equal(abandoned, true);
    });

    test('a body that breaks off is an error', async () => {
      const at = await scene('openai-body-cut');
      assert.ok((await thrown(ask(at.options))) instanceof Error);
      const { trace, calls } = await at.recorded();
      assert.equal(trace.status, 'error');
      assert.ok(calls[0].error.type);
    });

    for (const [scenario, what, type] of [
      ['openai-cut', 'that breaks off', 'stream_truncated'],
      ['openai-no-done', 'that stops short', 'stream_truncated'],
      ...(name === 'openai' ? [['openai-error-event', 'that carries an error', null]] : []),
      ['anthropic-cut', 'that is translated and breaks off', 'stream_truncated'],
    ])
      test(`a stream ${what} throws after what was said`, async () => {
        const at = await scene(scenario);
        const { text, error } = await readBroken(await ask(at.options, STREAM));
        assert.ok('one two '.startsWith(text) && text.length > 3, text);
        assert.ok(error instanceof errors.APIError, `${error?.constructor?.name}: ${error}`);
        const { trace, calls, attempts } = await at.recorded();
        assert.equal(trace.status, 'error');
        for (const span of [calls[0], attempts[0]]) {
          assert.equal(span.status, 'error', span.kind);
          if (type) assert.equal(span.error.type, type, span.kind);
        }
        // A reader of the log learns what the caller was told.
        const [told, kept] = [error.message, calls[0].error.message];
        assert.ok(told.includes(kept) || kept.includes(told), `${told} / ${kept}`);
      });

    if (name === 'portkey-ai')
      test('a stream that carries an error hands it over as a chunk, as the library does with a nameless event', async () => {
        const at = await scene('openai-error-event');
        const { chunks, text } = await read(await ask(at.options, STREAM));
        assert.equal(text, 'one two ');
        assert.equal(chunks.at(-1).error.message, 'The model broke down.');
        const { trace, calls } = await at.recorded();
        assert.equal(trace.status, 'error');
        assert.ok(calls[0].error.message.includes('The model broke down.'));
      });
  });
