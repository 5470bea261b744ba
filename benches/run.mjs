// What recording a call costs: the gateway beside two Workers in JavaScript, each in one workerd process.
//
//   node benches/run.mjs [--worker build] [--rounds 9] [--seconds 2] [--connections 8] [--sink outside|inside] [--json] [--write]
//
// Absolute times mean little on a shared machine, so the Workers take turns within each round and every ratio is the
// median of the rounds' ratios. The bench fails if an answer is not the provider's, or if a record is missing.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { ADMIN_KEY, cpuSeconds, here, send, sleep, startSink, startUpstream, startWorker, workerdVersion, wrk } from './rig.mjs';

const GOAL = 0.85; // of the least-code Worker, by requests a second
const SIZE_GOAL = 700; // KiB, gzip

const PROOF_REQUESTS = 1000;
const PROOF_STREAMS = 50;
const STARTS = 7;
const EVENTS = 100; // a stream; see stand-ins/upstream.mjs

const { values: options } = parseArgs({
  options: {
    worker: { type: 'string', default: 'build' },
    rounds: { type: 'string', default: '9' },
    seconds: { type: 'string', default: '2' },
    connections: { type: 'string', default: '8' },
    sink: { type: 'string', default: 'outside' },
    json: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});
const [rounds, seconds, connections] = [options.rounds, options.seconds, options.connections].map(Number);

const built = ['index.js', 'index_bg.wasm'].map(file => resolve(options.worker, file));
const CONTENDERS = [
  { name: 'forward', what: 'JS, forwards and looks at nothing (the floor)', files: [join(here, 'workers/forward.mjs')], messages: 0, records: 0 },
  { name: 'least', what: 'JS, the least code that records', files: [join(here, 'workers/least.mjs')], messages: 1, records: 1 },
  { name: 'gateway', what: 'this Worker, tracing on', files: built, records: 1 },
].filter(({ files }) => files.every(existsSync));
const recorded = CONTENDERS.some(({ name }) => name === 'gateway');

// ---- the load ---------------------------------------------------------------------------------------------------------

const BODY = JSON.stringify({
  model: 'gpt-4o-mini',
  messages: [
    { role: 'system', content: 'You explain how databases work to engineers who have never read the source of one. Be exact, use no lists, and say what each choice costs. If a "simple" answer would be wrong, give the longer one.' },
    { role: 'user', content: 'Our service writes small rows all day and we were told to batch them.\nWhy is one big transaction faster than many small ones?' },
    { role: 'assistant', content: 'Because each commit waits for the disk once. With a thousand rows in one transaction you wait once instead of a thousand times, and the engine writes each touched page once.' },
    { role: 'user', content: 'And what is the write-ahead log that the manual keeps mentioning – does it not write everything twice?' },
  ],
  temperature: 0.2,
  max_tokens: 256,
  user: 'user-4711',
  metadata: { team: 'storage', ticket: 'DB-1207' },
});
const STREAM_BODY = BODY.replace('"max_tokens"', '"stream":true,"stream_options":{"include_usage":true},"max_tokens"');

const CLIENT_HEADERS = {
  accept: 'application/json',
  'content-type': 'application/json',
  'user-agent': 'OpenAI/Python 1.75.0',
  'x-stainless-lang': 'python',
  'x-stainless-package-version': '1.75.0',
  'x-stainless-os': 'Linux',
  'x-stainless-arch': 'x64',
  'x-stainless-runtime': 'CPython',
  'x-stainless-retry-count': '0',
  authorization: 'Bearer sk-up',
  'x-portkey-api-key': ADMIN_KEY,
  'x-portkey-provider': 'openai',
};

const upstream = await startUpstream();
const CHAT = { name: 'chat', body: BODY, base: `${upstream.origin}/v1` };
const STREAM = { name: 'stream', body: STREAM_BODY, base: `${upstream.origin}/sse/v1` };
const load = ({ body, base }) => ({ body, headers: { ...CLIENT_HEADERS, 'x-portkey-custom-host': base } });

// ---- proof and measure ------------------------------------------------------------------------------------------------

function demand(truth, complaint) {
  if (!truth) throw new Error(complaint);
}

const PATIENCE = 5000; // ms, for records still on their way

/** What has arrived at the sink since `before`, once it is at least `expected` records and nothing more comes. */
async function arrived(worker, before, expected) {
  const deadline = performance.now() + PATIENCE;
  let last;
  for (;;) {
    const now = await worker.received();
    const late = performance.now() > deadline;
    if (late || (now.messages === last?.messages && now.records - before.records >= expected)) {
      return Object.fromEntries(Object.keys(now).map(key => [key, now[key] - before[key]]));
    }
    last = now;
    await sleep(200);
  }
}

/** Sends exactly `count` requests: every answer is the provider's, byte for byte, and every call left its record. */
async function prove(worker, kind, count) {
  const { body, headers } = load(kind);
  const direct = await send('POST', `${kind.base}/chat/completions`, { headers, body });
  const [before, upstreamBefore] = [await worker.received(), await upstream.answered()];
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections });
  const answers = await Promise.all(Array.from({ length: count }, () => send('POST', worker.url, { headers, body, agent })));
  agent.destroy();
  for (const { status, text } of answers) {
    demand(status === 200, `${worker.name} answered ${status}: ${text.slice(0, 300)}`);
    demand(text === direct.text, `${worker.name} changed the ${kind.name} answer: ${text.slice(0, 300)}`);
  }
  const asked = (await upstream.answered()) - upstreamBefore;
  demand(asked === count, `${worker.name}: ${count} requests became ${asked} calls of the provider`);
  const got = await arrived(worker, before, count * worker.records);
  demand(got.malformed === 0, `${worker.name} sent ${got.malformed} messages that are no array of records`);
  demand(got.records === count * worker.records, `${worker.name}: ${count} requests left ${got.records} records`);
  demand(worker.messages === undefined || got.messages === count * worker.messages, `${worker.name}: ${count} requests left ${got.messages} messages`);
  return { requests: count, ...got };
}

/** One turn of wrk. Its end cuts `connections` requests off, hence the slack in what may have been recorded. */
async function turn(worker, kind) {
  const [before, answeredBefore] = [await worker.received(), await upstream.answered()];
  const [cpuBefore, upstreamBefore] = [cpuSeconds(worker.pid), cpuSeconds(upstream.pid)];
  const totals = await wrk(worker.url, { connections, seconds, ...load(kind) });
  const upstreamBusy = (cpuSeconds(upstream.pid) - upstreamBefore) / totals.seconds;
  await sleep(100); // what was left to waitUntil
  const cpu = cpuSeconds(worker.pid) - cpuBefore;

  const { requests } = totals;
  const answered = (await upstream.answered()) - answeredBefore;
  demand(requests > 0 && totals.bad === 0 && totals.broken === 0, `${worker.name}: ${totals.bad} answers were errors, ${totals.broken} did not come`);
  demand(requests <= answered && answered <= requests + connections, `${worker.name}: ${requests} requests became ${answered} calls of the provider`);
  const [least, most] = [requests * worker.records, (requests + connections) * worker.records];
  const got = await arrived(worker, before, least);
  demand(got.malformed === 0 && least <= got.records && got.records <= most, `${worker.name}: ${requests} requests left ${got.records} records, ${got.malformed} messages malformed`);
  return {
    requests,
    rate: requests / totals.seconds,
    cpu: (cpu / requests) * 1e6,
    busy: cpu / totals.seconds,
    upstreamBusy,
    p50: totals.p50,
    p99: totals.p99,
    ...got,
  };
}

/** Rounds in which all take a turn, each round beginning with another one. */
async function measure(workers, kind) {
  const turns = new Map(workers.map(worker => [worker.name, []]));
  for (let round = 0; round < rounds; round++) {
    progress(`${kind.name}: round ${round + 1} of ${rounds}`);
    for (let i = 0; i < workers.length; i++) {
      const worker = workers[(round + i) % workers.length];
      turns.get(worker.name).push(await turn(worker, kind));
    }
  }
  return turns;
}

/** Milliseconds from the spawning of workerd to the first 200, the Workers again in turns. */
async function measureStarts() {
  const times = new Map(workers.map(({ name }) => [name, []]));
  const { body, headers } = load(CHAT);
  for (let start = 0; start < STARTS; start++) {
    progress(`start-up: ${start + 1} of ${STARTS}`);
    for (const { name, files, sink } of workers) {
      const spawned = performance.now();
      const worker = await startWorker(name, files, sink?.address);
      const { status } = await send('POST', worker.url, { headers, body });
      times.get(name).push(performance.now() - spawned);
      worker.stop();
      demand(status === 200, `${name} answered ${status} to its first request`);
    }
  }
  return times;
}

// ---- figures ----------------------------------------------------------------------------------------------------------

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Of a figure of two Workers, round by round: the median of the ratios and how far they lie apart. */
function ratio(turns, figure, name, base, higherIsBetter) {
  const ratios = turns.get(name).map((turn, round) => {
    const other = turns.get(base)[round][figure];
    return higherIsBetter ? turn[figure] / other : other / turn[figure];
  });
  return { median: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) };
}

function summary(turns, bases) {
  const rows = {};
  for (const [name, all] of turns) {
    const row = Object.fromEntries(['rate', 'cpu', 'busy', 'upstreamBusy', 'p50', 'p99'].map(figure => [figure, median(all.map(turn => turn[figure]))]));
    for (const figure of ['requests', 'messages', 'records', 'bytes']) row[figure] = all.reduce((sum, turn) => sum + turn[figure], 0);
    for (const base of bases) {
      row[`rateOf_${base}`] = ratio(turns, 'rate', name, base, true);
      row[`cpuOf_${base}`] = ratio(turns, 'cpu', name, base, false);
    }
    rows[name] = row;
  }
  return rows;
}

function bundle() {
  const kib = bytes => bytes / 1024;
  return built.map(file => readFileSync(file)).reduce(
    (sum, bytes) => ({ raw: sum.raw + kib(bytes.length), gzip: sum.gzip + kib(gzipSync(bytes, { level: 9 }).length) }),
    { raw: 0, gzip: 0 },
  );
}

// ---- print ------------------------------------------------------------------------------------------------------------

const progress = text => process.stderr.write(`${text}\n`);
const integer = value => Math.round(value).toLocaleString('en-US');
const share = ({ median, low, high }) => `${median.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`;
const verdict = met => (met ? 'met' : 'missed');

function table(head, rows) {
  const line = cells => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, column) => (column ? '---:' : '---'))), ...rows.map(line)].join('\n');
}

const whatIs = name => CONTENDERS.find(contender => contender.name === name).what;

function chatTable(rows) {
  const head = ['Worker', 'req/s', 'of the floor', 'of the least code', 'CPU µs/request', 'CPU: of the floor', 'CPU: of the least code', 'CPU busy', 'p50 ms', 'p99 ms'];
  return table(head, Object.entries(rows).map(([name, row]) => [
    whatIs(name), integer(row.rate), share(row.rateOf_forward), share(row.rateOf_least),
    integer(row.cpu), share(row.cpuOf_forward), share(row.cpuOf_least), row.busy.toFixed(2), (row.p50 / 1000).toFixed(2), (row.p99 / 1000).toFixed(2),
  ]));
}

function streamTable(rows) {
  const head = ['Worker', 'events/s', 'CPU µs/event', 'CPU: of the floor'];
  return table(head, Object.entries(rows).map(([name, row]) => [whatIs(name), integer(row.rate * EVENTS), (row.cpu / EVENTS).toFixed(1), share(row.cpuOf_forward)]));
}

function recordTable(proofs, rows) {
  const head = ['Worker', 'exact run: requests', 'messages', 'records', 'timed turns: requests', 'messages', 'records', 'bytes/record'];
  return table(head, Object.entries(rows).map(([name, row]) => {
    const proof = proofs[name];
    return [whatIs(name), proof.requests, proof.messages, proof.records, integer(row.requests), integer(row.messages), integer(row.records), row.records ? integer(row.bytes / row.records) : '–'];
  }));
}

function markdown({ chat, stream, proofs, starts, size }) {
  const started = Object.entries(starts).map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`).join(', ');
  const lines = [
    `${os.cpus().length} shared ${os.arch().replace('x64', 'x86-64')} cores, workerd ${workerdVersion}, ${connections} connections, median of ${rounds} rounds of ${seconds} s (lowest–highest), sink ${options.sink} the process.`,
    `The provider used ${Math.max(...Object.values(chat).map(row => row.upstreamBusy)).toFixed(2)} of a core at most.`,
    '', 'One answer:', '', chatTable(chat),
    '', `A stream of ${EVENTS} events, one a millisecond on each connection:`, '', streamTable(stream),
    '', 'Records received by the sink:', '', recordTable(proofs, chat),
    '', `Start-up, from the spawning of workerd to the first 200, fastest of ${STARTS}: ${started}.`,
  ];
  if (!recorded) return [...lines, '', 'This Worker was not built: no row, no size.'].join('\n');
  const [score, delay] = [chat.gateway.rateOf_least.median, starts.gateway - starts.forward];
  return [
    ...lines,
    `Of this the Worker itself is ${delay.toFixed(0)} ms (its start less that of the floor).`,
    '', `Bundle: ${size.gzip.toFixed(0)} KiB gzip -9, ${size.raw.toFixed(0)} KiB plain.`,
    '', `Goals: ${score.toFixed(2)} of the least code, at least ${GOAL}: **${verdict(score >= GOAL)}**. ${size.gzip.toFixed(0)} KiB gzip, under ${SIZE_GOAL}: **${verdict(size.gzip < SIZE_GOAL)}**.`,
  ].join('\n');
}

function writeInto(path, text) {
  const [start, end] = ['<!-- figures -->', '<!-- end of figures -->'];
  const page = readFileSync(path, 'utf8');
  demand(page.includes(start) && page.includes(end), `${path} has no place for the figures`);
  writeFileSync(path, `${page.split(start)[0]}${start}\n${text}\n${end}${page.split(end)[1]}`);
}

// ---- the run ----------------------------------------------------------------------------------------------------------

if (!recorded) progress(`no index.js and index_bg.wasm in ${resolve(options.worker)}: only the JavaScript Workers run`);
const workers = [];
for (const { name, files, messages, records } of CONTENDERS) {
  const sink = options.sink === 'outside' ? await startSink() : null;
  const worker = await startWorker(name, files, sink?.address);
  workers.push({ ...worker, files, messages, records, sink, received: sink?.received ?? worker.received });
}
const streamers = workers.filter(({ name }) => name !== 'least'); // which holds a stream back until its end

const proofs = {};
for (const worker of workers) proofs[worker.name] = await prove(worker, CHAT, PROOF_REQUESTS);
for (const worker of streamers) await prove(worker, STREAM, PROOF_STREAMS);
progress('proved; warming up');
for (const worker of workers) await turn(worker, CHAT);
for (const worker of streamers) await turn(worker, STREAM);

const storedBefore = await Promise.all(workers.map(worker => worker.stored()));
const chat = summary(await measure(workers, CHAT), ['forward', 'least']);
const stream = summary(await measure(streamers, STREAM), ['forward']);
for (const [index, worker] of workers.entries()) {
  const calls = (await worker.stored()) - storedBefore[index];
  demand(calls <= chat[worker.name].requests / 100, `${worker.name} went to D1 or R2 ${calls} times on the hot path`);
  worker.stop();
}
const starts = Object.fromEntries([...(await measureStarts())].map(([name, times]) => [name, Math.min(...times)]));
const figures = { chat, stream, proofs, starts, size: recorded ? bundle() : null };

if (options.write) writeInto(join(here, 'README.md'), markdown(figures));
console.log(options.json ? JSON.stringify(figures, null, 2) : `\n${markdown(figures)}`);
process.exit();
