// The machinery of the bench: a bare workerd around some modules, the stand-ins it talks to, CPU time and wrk.
// It knows nothing of what is compared; run.mjs does.
import { spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, extname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const workerd = require('workerd').default;
export const workerdVersion = require('workerd/package.json').version;

export const here = fileURLToPath(new URL('.', import.meta.url));
export const ADMIN_KEY = 'bench-admin-key';

const TICKS_PER_SECOND = 100; // USER_HZ: the unit of /proc/<pid>/stat, whatever the kernel's own tick

// ---- processes --------------------------------------------------------------------------------------------------------

const alive = new Set();
const scratch = mkdtempSync(join(tmpdir(), 'bench-'));
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

/** A program that lives until `stop`. `first(stream, n)` waits for lines of its output, and fails if it ends before. */
function launch(command, args, stdio) {
  const child = spawn(command, args, { stdio });
  alive.add(child);
  child.once('exit', () => alive.delete(child));
  const gone = new Promise((_, fail) => {
    child.once('error', fail);
    child.once('exit', code => fail(new Error(`${basename(command)} ended with ${code}`)));
  });
  gone.catch(() => {}); // of interest only to whoever races against it
  return { child, stop: () => child.kill('SIGKILL'), first: (stream, n) => Promise.race([firstLines(stream, n), gone]) };
}

function firstLines(stream, wanted) {
  return new Promise(done => {
    const found = [];
    createInterface({ input: stream }).on('line', line => found.push(line) === wanted && done(found));
  });
}

export const sleep = ms => new Promise(done => setTimeout(done, ms));

export function send(method, url, { headers = {}, body, agent } = {}) {
  return new Promise((done, fail) => {
    const request = http.request(url, { method, headers, agent }, response => {
      const chunks = [];
      response.on('data', chunk => chunks.push(chunk));
      response.on('error', fail);
      response.on('end', () => done({ status: response.statusCode, text: Buffer.concat(chunks).toString() }));
    });
    request.on('error', fail);
    request.end(body);
  });
}

const getJson = async url => JSON.parse((await send('GET', url)).text);

// ---- what is started --------------------------------------------------------------------------------------------------

const standIn = name => join(here, 'stand-ins', name);

/** The instant provider. */
export async function startUpstream() {
  const { child, stop, first } = launch(process.execPath, [standIn('upstream.mjs')], ['ignore', 'pipe', 'inherit']);
  const [port] = await first(child.stdout, 1);
  const origin = `http://127.0.0.1:${port}`;
  return { origin, pid: child.pid, stop, answered: async () => (await getJson(`${origin}/count`)).answered };
}

/** A workerd of its own for the sink, so that receiving a record costs the sender what a send costs and no more. */
export async function startSink() {
  const { port, ...rest } = await startWorkerd('sink', [service('sink', [standIn('sink.mjs')])], ['sink']);
  const address = `127.0.0.1:${port.sink}`;
  return { ...rest, address, received: () => getJson(`http://${address}/count`) };
}

/**
 * One workerd with `files` as its Worker, the first being the entry. LOGS leads to the sink at `sinkAddress`, or to one in
 * the same process if there is none. Resolves when it listens, which is before the Worker has answered anything.
 */
export async function startWorker(name, files, sinkAddress) {
  const external = { text: `(name = "sink", external = (address = "${sinkAddress}", http = ()))`, files: [] };
  const sink = sinkAddress ? external : service('sink', [standIn('sink.mjs')]);
  const services = [service('main', files, BINDINGS), sink, service('storage', [standIn('storage.mjs')])];
  const { port, ...rest } = await startWorkerd(name, services, ['main', 'sink', 'storage']);
  return {
    ...rest,
    url: `http://127.0.0.1:${port.main}/v1/chat/completions`,
    received: () => getJson(`http://127.0.0.1:${port.sink}/count`),
    stored: async () => (await getJson(`http://127.0.0.1:${port.storage}/count`)).calls,
  };
}

// D1 and R2 are there to be left alone: their stand-in answers emptily and counts.
const BINDINGS = [
  `(name = "GATEWAY_ADMIN_KEY", text = "${ADMIN_KEY}")`,
  '(name = "TRUSTED_CUSTOM_HOSTS", text = "localhost,127.0.0.1")',
  '(name = "LOGS", queue = "sink")',
  '(name = "BODIES", r2Bucket = "storage")',
  '(name = "DB", wrapped = (moduleName = "cloudflare-internal:d1-api", innerBindings = [(name = "fetcher", service = "storage")]))',
];

/** A Worker as a service: the text that declares it, and the files that the text embeds. */
function service(name, files, bindings = []) {
  const modules = files.map((file, index) => {
    const kind = extname(file) === '.wasm' ? 'wasm' : 'esModule';
    return `(name = "${index ? './' : ''}${basename(file)}", ${kind} = embed "${basename(file)}")`;
  });
  const text = `(name = "${name}", worker = (
      modules = [${modules.join(', ')}],
      compatibilityDate = "2026-04-01", compatibilityFlags = ["enable_request_signal"],
      bindings = [${bindings.join(', ')}]))`;
  return { text, files };
}

async function startWorkerd(name, services, sockets) {
  const directory = mkdtempSync(join(scratch, `${name}-`));
  for (const file of services.flatMap(({ files }) => files)) copyFileSync(file, join(directory, basename(file)));
  const config = join(directory, 'config.capnp');
  writeFileSync(
    config,
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [${services.map(({ text }) => text).join(',\n    ')},
    (name = "internet", network = (allow = ["public", "private"]))],
  sockets = [${sockets.map(socket => `(name = "${socket}", address = "127.0.0.1:0", http = (), service = "${socket}")`).join(', ')}]);
`,
  );
  const { child, stop, first } = launch(workerd, ['serve', '--control-fd=3', config], ['ignore', process.stderr, 'inherit', 'pipe']);
  const listening = await first(child.stdio[3], sockets.length);
  const port = Object.fromEntries(listening.map(line => JSON.parse(line)).map(({ socket, port }) => [socket, port]));
  return { name, pid: child.pid, stop, port };
}

// ---- measures ---------------------------------------------------------------------------------------------------------

/** CPU seconds, user and system, that all threads of the process have used. */
export function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').pop().split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Runs wrk with one thread; what post.lua prints. */
export async function wrk(url, { connections, seconds, headers, body }) {
  const bodyFile = join(scratch, 'body.json');
  writeFileSync(bodyFile, body);
  const flags = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', join(here, 'post.lua'), ...flags, url, '--', bodyFile];
  const child = spawn('wrk', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const printed = await new Promise((done, fail) => {
    let text = '';
    child.on('error', error => fail(error.code === 'ENOENT' ? new Error('wrk is missing: apt-get install wrk') : error));
    child.stdout.on('data', chunk => (text += chunk));
    child.on('close', () => done(text));
  });
  const totals = printed.split('\n').find(line => line.startsWith('{"requests":'));
  if (!totals) throw new Error(`wrk printed no totals:\n${printed}`);
  return JSON.parse(totals);
}
