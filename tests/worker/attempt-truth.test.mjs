// The trace is the truth: hundreds of generated configs against upstreams that fail as a seed says. For every call three
// lists must be equal: what the upstream's own log saw, what the attempt spans say, and what the oracle predicts.
//
//   TRUTH_SEED=7 TRUTH_CASES=50 node --test tests/worker/attempt-truth.test.mjs      another draw
//   TRUTH_ONLY=123 …                                                              one case again
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { attempts, config, QUESTION, request, startGateway } from './support/gateway.mjs';
import { predict } from './support/oracle.mjs';
import { generator } from './support/random.mjs';
import { chat, chatEvents, json, message, messageEvents, never, refusingPort, reset, resetInBody, sse, startUpstream, status } from './support/upstream.mjs';

const SEED = Number(process.env.TRUTH_SEED ?? 20261120);
const CASES = Number(process.env.TRUTH_CASES ?? 400);
const ONLY = process.env.TRUTH_ONLY;
const AT_ONCE = 40;
/** Far above what a loaded machine needs to answer, so that only what hangs is ever cut. */
const TIMEOUT_MS = 2500;

const upstream = await startUpstream();
const gateway = await startGateway();
const closedPort = await refusingPort();
after(() => Promise.all([gateway.stop(), upstream.stop()]));

test('attempt spans, upstream log and oracle agree on every call', { timeout: 300_000 }, async () => {
  const numbers = ONLY === undefined ? Array.from({ length: CASES }, (_, number) => number) : [Number(ONLY)];
  const problems = [];
  const totals = { calls: 0, attempts: 0, streams: 0, failures: 0 };
  const queue = [...numbers];
  const worker = async () => {
    for (let number; (number = queue.shift()) !== undefined; ) {
      const problem = await runCase(number, totals).catch(error => `broke: ${error.stack}`);
      if (problem) problems.push(`case ${number} of seed ${SEED}: ${problem}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  console.log(`attempt truth, seed ${SEED}: ${totals.calls} calls, ${totals.attempts} attempts (${totals.failures} failed, ${totals.streams} streamed), ${problems.length} mismatches`);
  assert.equal(problems.length, 0, `\n${problems.slice(0, 5).join('\n\n')}`);
});

async function runCase(number, totals) {
  const draw = generator(SEED * 100_003 + number);
  const made = makeConfig(draw, `t${number}`);
  const expected = predict(made.config, (leaf, nth) => made.fates.get(leaf)[Math.min(nth, made.fates.get(leaf).length - 1)]);
  for (const [leaf, fates] of made.fates) upstream.on(leaf, ...fates.map(fate => answer(fate, made.stream, made.providers.get(leaf))));
  const trace = `truth-${SEED}-${number}`;
  const response = await gateway.post('/v1/chat/completions', { ...QUESTION, stream: made.stream || undefined }, config(strip(made.config), { 'x-portkey-trace-id': trace, authorization: 'Bearer sk-caller' }));
  const stored = await gateway.settled(trace);

  const spans = attempts(stored).map(span => ({
    target: span.attempt.target,
    status: span.status_code,
    error: span.error?.type ?? null,
    model: span.request_model,
    provider: span.provider,
    ...(({ index, retry, reason, wait_ms, wait_reason }) => ({ index, retry, reason, waitMs: wait_ms, waitReason: wait_reason }))(span.attempt),
  }));
  const predicted = expected.attempts.map(({ leaf, ...attempt }, index) => ({ ...attempt, index, model: made.models.get(leaf) ?? QUESTION.model }));
  // What refuses the connection has no log of its own.
  const reachable = expected => made.fates.get(expected.leaf)[0].refused !== true;
  const log = upstream.requests(`t${number}`).map((entry, index, all) => ({ leaf: entry.key, model: JSON.parse(entry.body).model, ...seen(entry, index === all.length - 1) }));
  const byLog = expected.attempts.filter(reachable).map(attempt => ({ leaf: attempt.leaf, model: made.models.get(attempt.leaf) ?? QUESTION.model, status: attempt.status, error: attempt.error }));
  const pathOf = new Map(expected.attempts.map(attempt => [attempt.target, attempt.leaf]));
  const bySpans = attempts(stored)
    .map(span => ({ leaf: pathOf.get(span.attempt.target), model: span.request_model, status: span.status_code, error: span.error?.type ?? null }))
    .filter(span => span.leaf === undefined || reachable(span));

  totals.calls += 1;
  totals.attempts += spans.length;
  totals.failures += spans.filter(span => span.error).length;
  totals.streams += attempts(stored).filter(span => span.stream).length;

  const root = request(stored);
  const got = { status: response.status, root: root.status_code, rootStatus: root.status, index: response.headers['x-portkey-last-used-option-index'], count: Number(response.headers['x-portkey-retry-attempt-count']), calls: stored.request_count, cost: costs(stored) };
  const wanted = { status: expected.status, root: expected.status, rootStatus: expected.error ? 'error' : 'ok', index: expected.path, count: expected.count, calls: 1, cost: true };
  for (const [name, left, right] of [
    ['spans against the upstream log', bySpans, log],
    ['the upstream log against the oracle', log, byLog],
    ['spans against the oracle', spans.map(sorted), predicted.map(sorted)],
    ['the answer', sorted(got), sorted(wanted)],
    ['parents', attempts(stored).map(span => span.parent_span_id), spans.map(() => root.span_id)],
    ['times', attempts(stored).filter((span, index, all) => !(span.start_time >= root.start_time && span.end_time <= root.end_time && (!index || span.start_time >= all[index - 1].end_time))), []],
  ])
    if (JSON.stringify(left) !== JSON.stringify(right))
      return `${name} differ\nconfig ${JSON.stringify(strip(made.config))}\nfates ${JSON.stringify([...made.fates])}\nleft  ${JSON.stringify(left, null, 1)}\nright ${JSON.stringify(right, null, 1)}\nupstream ${JSON.stringify(log)}\nspans ${JSON.stringify(spans)}`;
  return null;
}

/** How an attempt ended, by the upstream's own log; only of the last one does anyone wait for the end of a stream. */
function seen(entry, last) {
  if (entry.outcome === 'reset') return { status: null, error: 'connect' };
  if (entry.outcome === 'none') return { status: null, error: entry.abandonedAt ? 'timeout' : 'never let go' };
  if (entry.hungUp) return { status: null, error: 'connect' };
  if (!entry.whole && last) return { status: entry.outcome, error: 'stream_truncated' };
  return { status: entry.outcome, error: entry.outcome >= 400 ? 'http_status' : null };
}

/** Costs add up: the trace's over what is known; the call's is unknown when that of a 2xx answer is: no other costs anything. */
function costs(trace) {
  const all = attempts(trace);
  const sum = all.reduce((total, span) => total + (span.cost_usd ?? 0), 0);
  const unknown = all.some(span => span.status_code !== null && span.status_code < 300 && span.cost_usd === null);
  const near = cost => Math.abs(sum - (cost ?? 0)) < 1e-12;
  return near(trace.cost_usd) && trace.cost_complete === !unknown && (unknown ? request(trace).cost_usd === null : near(request(trace).cost_usd));
}

const sorted = object => Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));

// ---- drawing a case ---------------------------------------------------------------------------------------------------

const STATUSES = [200, 200, 200, 200, 200, 200, 201, 206, 301, 400, 401, 404, 408, 409, 418, 422, 429, 429, 429, 429, 500, 500, 502, 503, 503, 504, 529];
const CLAUDE_STATUSES = STATUSES.filter(status => status === 200 || status >= 400);
const CODE_LISTS = [[429], [500, 502, 503], [429, 503], [408], [400, 401, 404], [], [200, 429], [503], [429, 408, 500]];

function makeConfig(draw, key) {
  const fates = new Map();
  const models = new Map();
  const providers = new Map();
  const stream = draw.chance(0.3);
  let leaves = 0;

  function leaf(timeoutAbove, modelAbove) {
    const id = `${key}/${leaves++}`;
    const node = { id, provider: draw.chance(0.2) ? 'anthropic' : 'openai', custom_host: upstream.base(id), ...(draw.chance(0.8) && { api_key: `sk-${id}` }) };
    providers.set(id, node.provider);
    decorate(node);
    const model = node.override_params?.model ?? modelAbove;
    if (model) models.set(id, model);
    if (draw.chance(0.05)) {
      node.custom_host = `http://127.0.0.1:${closedPort}/${id}/v1`;
      fates.set(id, [{ refused: true }]);
    } else fates.set(id, Array.from({ length: draw.count(1, 3) }, () => fate(Boolean(node.request_timeout || timeoutAbove), node.provider)));
    return node;
  }

  function fate(timed, provider) {
    if (draw.chance(0.07)) return { reset: true };
    if (draw.chance(0.05)) return stream ? { cut: true } : { reset: true, inBody: true };
    if (timed && draw.chance(0.12)) return { hangs: true };
    const code = draw.pick(provider === 'anthropic' ? CLAUDE_STATUSES : STATUSES);
    return { status: code, ...(code === 429 && draw.chance(0.9) && { retryAfterMs: draw.pick([1, 3, 20, 60_000]) }) };
  }

  function decorate(node) {
    if (draw.chance(0.35)) node.retry = { attempts: draw.pick([0, 1, 1, 1, 2, 2]), ...(draw.chance(0.4) && { on_status_codes: draw.pick(CODE_LISTS) }), ...(draw.chance(0.75) && { use_retry_after_header: true }) };
    if (draw.chance(0.12)) node.request_timeout = TIMEOUT_MS;
    if (draw.chance(0.25)) node.override_params = { model: draw.pick(['gpt-4o', 'gpt-4.1-mini', 'o4-mini']), ...(draw.chance(0.3) && { temperature: 0.5 }) };
  }

  function tree(depth, timeoutAbove, modelAbove) {
    if (depth === 0 || draw.chance(depth === 3 ? 0.1 : 0.55)) return leaf(timeoutAbove, modelAbove);
    const node = { strategy: { mode: draw.pick(['fallback', 'fallback', 'fallback', 'fallback', 'single']) }, targets: [] };
    if (node.strategy.mode === 'fallback' && draw.chance(0.4)) node.strategy.on_status_codes = draw.pick(CODE_LISTS);
    decorate(node);
    const below = [node.request_timeout ?? timeoutAbove, node.override_params?.model ?? modelAbove];
    const size = draw.count(1, depth === 3 ? 4 : 2);
    for (let index = 0; index < size; index++) node.targets.push(tree(depth - 1, ...below));
    return node;
  }

  return { config: tree(3), fates, models, providers, stream };
}

/** The config without our own names for its leaves. */
function strip({ id: _, ...node }) {
  return node.targets ? { ...node, targets: node.targets.map(strip) } : node;
}

function answer(fate, stream, provider) {
  const [whole, streamed] = provider === 'anthropic' ? [message, messageEvents] : [chat, chatEvents];
  if (fate.refused || fate.hangs) return never();
  if (fate.reset) return fate.inBody ? resetInBody() : reset();
  if (fate.cut) return sse(streamed('a b', { done: false }), { whole: false });
  if (fate.status >= 300) return status(fate.status, fate.retryAfterMs === undefined ? {} : { headers: { 'retry-after-ms': String(fate.retryAfterMs) } });
  return stream ? sse(streamed('a b'), { status: fate.status }) : json(whole(), { status: fate.status });
}
