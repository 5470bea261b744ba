// The built Worker in real workerd with real D1, Queue and R2, on a port of its own.
//
// A test talks to it over HTTP; D1 and R2 are opened directly only to prove what must *not* be in them, or to count.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { Miniflare, NoOpLog } from 'miniflare';
import { open, send } from './client.mjs';
import { faultWorkers, WRAPPED } from './faults.mjs';

const root = fileURLToPath(new URL('../../../', import.meta.url));
export const BUILD = resolve(root, process.env.SPANGATE_BUILD ?? 'build-test');
export const ADMIN_KEY = 'gw-admin-key-for-tests';
/** How long anything may take that has no bound of its own: ten times and more what it needs. */
export const PATIENCE = Number(process.env.SPANGATE_PATIENCE_MS ?? 30_000);
export const QUEUE = 'spangate-logs';

const VARS = { GATEWAY_ADMIN_KEY: ADMIN_KEY, ENABLE_MOCK_PROVIDER: 'true', TRUSTED_CUSTOM_HOSTS: 'localhost,127.0.0.1' };

/**
 * `vars` go over the defaults (`null` removes one). `faults`: puts a wrapper around LOGS, DB and BODIES that a test can
 * tell to fail, and that remembers every queue message (see faults.mjs). `batchSeconds`: how long the queue gathers.
 */
export async function startGateway({ vars = {}, faults = false, batchSeconds = 0, retryDelay = 0, outboundService } = {}) {
  if (!existsSync(join(BUILD, 'index.js'))) throw new Error(`no build in ${BUILD}: run scripts/build.sh --test-faults`);
  const plan = { failing: new Set(), slow: {}, messages: [], calls: [] };
  const console = [];
  const bindings = Object.fromEntries(Object.entries({ ...VARS, ...vars }).filter(([, value]) => value !== null));
  const real = {
    d1Databases: { DB: 'spangate' },
    r2Buckets: { BODIES: 'spangate-bodies' },
    queueProducers: { LOGS: QUEUE },
  };
  const consumer = { maxBatchSize: 50, maxBatchTimeout: batchSeconds, maxRetries: 3, retryDelay };
  const worker = {
    name: 'spangate',
    modulesRoot: BUILD,
    modules: modules(),
    compatibilityDate: '2026-04-01',
    compatibilityFlags: ['enable_request_signal'],
    bindings,
    queueConsumers: { [QUEUE]: { ...consumer, deadLetterQueue: `${QUEUE}-dlq` }, [`${QUEUE}-dlq`]: consumer },
    ...(outboundService && { outboundService }),
    ...(faults ? { wrappedBindings: WRAPPED } : real),
  };
  const mf = new Miniflare({
    host: '127.0.0.1',
    port: 0,
    cf: false,
    log: new NoOpLog(),
    handleRuntimeStdio: (...streams) => streams.forEach(stream => createInterface({ input: stream }).on('line', line => console.push(line))),
    workers: [worker, ...(faults ? faultWorkers(plan) : []), { name: 'peek', modules: true, script: 'export default {}', ...real }],
  });
  const url = await mf.ready.then(({ origin }) => origin, error => { throw new Error([error.message, ...console].join('\n')); });
  const db = await mf.getD1Database('DB', 'peek');
  const bodies = await mf.getR2Bucket('BODIES', 'peek');
  await migrate(db);

  const authorised = { 'x-portkey-api-key': ADMIN_KEY };
  const gateway = {
    url,
    mf,
    db,
    bodies,
    /** What the Worker wrote to its console. */
    console,
    /** Switchable faults: `failing` holds `queue`, `d1`, `d1.write`, `r2.put`, …; `messages` every body sent to the queue. */
    faults: plan,
    get: path => send(url + path, { method: 'GET', headers: authorised }),
    post: (path, body, headers = {}) =>
      send(url + path, { headers: { 'content-type': 'application/json', ...authorised, ...headers }, body: typeof body === 'object' && !Buffer.isBuffer(body) ? JSON.stringify(body) : body }),
    open: (path, body, headers = {}) => open(url + path, { headers: { 'content-type': 'application/json', ...authorised, ...headers }, body: JSON.stringify(body) }),
    /** A chat call; `headers` say where to. */
    chat: (headers, body = {}) => gateway.post('/v1/chat/completions', typeof body === 'object' && !Buffer.isBuffer(body) ? { ...QUESTION, ...body } : body, headers),
    trace: id => settled(gateway, id),
    /** The trace once it holds `calls` calls. */
    settled: (id, calls) => settled(gateway, id, calls),
    /** The trace of a response. */
    traceOf: response => settled(gateway, response.headers['x-portkey-trace-id']),
    log: async id => {
      const found = await eventually(async () => {
        const response = await gateway.get(`/v1/logs/${encodeURIComponent(id)}`);
        return response.status === 200 && response;
      }, `log ${id}`);
      return found.json();
    },
    /** The log of a response: the request span with what was said. */
    logOf: response => gateway.log(response.headers['x-portkey-request-id']),
    accounting: async () => (await gateway.get('/v1/accounting')).json(),
    /** Resolves with the account once nothing is on its way and nothing has moved for three looks. */
    async rest() {
      let before = '';
      let still = 0;
      return eventually(async () => {
        await sleep(250 + batchSeconds * 700);
        const account = await gateway.accounting();
        const now = JSON.stringify([account, await gateway.counts()]);
        still = now === before && !account.pending ? still + 1 : 0;
        before = now;
        return still >= 2 && account;
      }, 'rest');
    },
    tables: async () =>
      (await db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_cf%' ESCAPE '\\' ORDER BY name").all()).results.map(row => row.name),
    async counts() {
      const counts = {};
      for (const table of await gateway.tables()) counts[table] = (await db.prepare(`SELECT count(*) AS n FROM "${table}"`).first()).n;
      return counts;
    },
    /** Everything in D1, row by row, as text. */
    async dump() {
      const rows = [];
      for (const table of await gateway.tables())
        for (const row of (await db.prepare(`SELECT * FROM "${table}"`).all()).results) rows.push(`${table} ${JSON.stringify(row)}`);
      return rows.join('\n');
    },
    /** Everything in R2, by key, decompressed. */
    async objects() {
      const found = {};
      for (const { key } of (await bodies.list()).objects) {
        const content = Buffer.from(await (await bodies.get(key)).arrayBuffer());
        found[key] = (content[0] === 0x1f && content[1] === 0x8b ? gunzipSync(content) : content).toString();
      }
      return found;
    },
    /** Calls the Worker's queue handler with messages of our own; says what became of each. */
    deliver: async (messages, queue = QUEUE) =>
      (await mf.getWorker('spangate')).queue(queue, messages.map((body, index) => ({ id: `message-${index}-${Math.random()}`, timestamp: new Date(), attempts: 1, body }))),
    /** Ends it. Nothing that a test does may make the Worker panic, unless it says so. */
    async stop({ panics = false } = {}) {
      await mf.dispose();
      const panicked = console.filter(line => /panicked at|Critical Error|Reinitializing/.test(line));
      if (!panics && panicked.length) throw new Error(`the Worker panicked:\n${panicked.join('\n')}`);
    },
  };
  return gateway;
}

export const QUESTION = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'ping' }] };

/** Headers that send a call to `upstream` under `key`, as OpenAI. */
export const to = (upstream, key, more = {}) => ({
  'x-portkey-provider': 'openai',
  'x-portkey-custom-host': upstream.base(key),
  authorization: 'Bearer sk-upstream',
  ...more,
});

/** Headers that carry a config. */
export const config = (value, more = {}) => ({ 'x-portkey-config': JSON.stringify(value), ...more });

/** A target of a config: `upstream` under `key`. */
export const target = (upstream, key, more = {}) => ({ provider: 'openai', custom_host: upstream.base(key), api_key: 'sk-upstream', ...more });

/** Polls until `probe` returns something truthy. */
export async function eventually(probe, what, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  for (let pause = 25; ; pause = Math.min(pause * 1.5, 400)) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${patience} ms in vain for ${what}`);
    await sleep(pause);
  }
}

async function settled(gateway, id, calls = 1) {
  return eventually(async () => {
    const response = await gateway.get(`/v1/traces/${encodeURIComponent(id)}`);
    if (response.status !== 200) return null;
    const trace = response.json();
    return trace.request_count >= calls && trace;
  }, `${calls} call(s) in trace ${id}`);
}

/** What a trace says its attempts were, in order. */
export const attempts = trace => trace.spans.filter(span => span.kind === 'attempt').sort((a, b) => a.attempt.index - b.attempt.index);
export const request = trace => trace.spans.find(span => span.kind === 'request');

function modules() {
  const files = readdirSync(BUILD, { recursive: true }).map(String).filter(file => /\.(js|mjs|wasm)$/.test(file));
  const order = file => (file === 'index.js' ? 0 : 1);
  return files
    .sort((a, b) => order(a) - order(b))
    .map(file => ({ type: file.endsWith('.wasm') ? 'CompiledWasm' : 'ESModule', path: join(BUILD, file), contents: readFileSync(join(BUILD, file)) }));
}

async function migrate(db) {
  const directory = join(root, 'migrations');
  for (const file of readdirSync(directory).filter(file => file.endsWith('.sql')).sort()) {
    const statements = readFileSync(join(directory, file), 'utf8').replace(/--.*$/gm, '').split(';').filter(text => text.trim());
    await db.batch(statements.map(text => db.prepare(text)));
  }
}
