// Trace ids, spans and metadata, from a library's option to the stored trace (protocol §1.2, §1.5, §1.9; checklist 1, 2).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LIBRARIES, QUESTION, recorded, scene, shows } from './support.mjs';

for (const { name, connect, perCall, headers } of LIBRARIES)
  describe(name, { concurrency: true }, () => {
    test('what a client is given is on its call', async () => {
      const at = await scene('openai');
      const client = connect({ ...at.options, spanId: 'plan', spanName: 'Plan the trip', parentSpanId: 'agent', metadata: { _user: 'zoe', team: 'maps' } });
      shows(await headers(client.chat.completions.create(QUESTION)), { 'x-portkey-trace-id': at.traceId });
      const { trace, calls } = await at.recorded();
      assert.equal(trace.trace_id, at.traceId);
      shows(calls[0], { span_id: 'plan', name: 'Plan the trip', parent_span_id: 'agent', metadata: { _user: 'zoe', team: 'maps' } });
    });

    test('what a single call is given wins, and streams have it too', async () => {
      const at = await scene('openai');
      const client = connect({ ...at.options, traceId: `${at.traceId}-unused`, metadata: { team: 'maps' } });
      const stream = await client.chat.completions.create({ ...QUESTION, stream: true }, perCall({ traceId: at.traceId, spanId: 'one', metadata: { team: 'search' } }));
      for await (const _ of stream);
      const { calls } = await at.recorded();
      shows(calls[0], { span_id: 'one', stream: true, metadata: { team: 'search' } });
    });

    test('calls of one client share its trace; a parent is found by its id', async () => {
      const at = await scene('openai');
      await connect({ ...at.options, spanId: 'root' }).chat.completions.create(QUESTION);
      await connect({ ...at.options, spanId: 'leaf', parentSpanId: 'root' }).embeddings.create({ model: 'text-embedding-3-small', input: 'x', encoding_format: 'float' });
      const { trace, calls, attempts } = await at.recorded(2);
      assert.deepEqual([trace.request_count, trace.span_count], [2, 4]);
      assert.deepEqual(calls.map(span => [span.span_id, span.parent_span_id, span.operation]), [['root', null, 'chat'], ['leaf', 'root', 'embeddings']]);
      assert.deepEqual(attempts.map(span => span.parent_span_id), ['root', 'leaf']);
    });

    test('without a trace id each call gets one of its own', async () => {
      const at = await scene('openai');
      const { completions } = connect({ ...at.options, traceId: undefined }).chat;
      const ids = [];
      for (const _ of 'ab') ids.push((await headers(completions.create(QUESTION)))['x-portkey-trace-id']);
      assert.equal(new Set(ids.filter(Boolean)).size, 2);
      for (const id of ids) assert.equal((await recorded(id)).trace.request_count, 1);
    });
  });
