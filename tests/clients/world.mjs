// Starts the built Worker and the providers behind it, runs the suites of both languages against them, and stops it all.
//
// Two deployments: `gateway` has no provider keys, `deployed` keeps one for OpenAI and finds our upstream where
// api.openai.com would be. Tests of any language learn of them from SPANGATE_WORLD and steer the upstream over `control`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { ADMIN_KEY, startGateway } from '../worker/support/gateway.mjs';
import { refusingPort, startUpstream } from '../worker/support/upstream.mjs';
import { SCENARIOS } from './providers.mjs';

const here = new URL('.', import.meta.url).pathname;
const DEPLOYMENT_KEY = 'sk-deployment';
const OPENAI_HOST = 'api.openai.com';
/** Milliseconds for one suite; it needs a tenth of them. */
const PATIENCE = 300_000;

const SUITES = {
  node: ['node', ['--test', '--test-reporter=spec', '--test-timeout=60000', 'node/']],
  python: [process.env.SPANGATE_PYTHON ?? 'python3', ['-m', 'pytest', '-p', 'no:cacheprovider', 'python/']],
};

const upstream = await startUpstream();
upstream.on(OPENAI_HOST, SCENARIOS.openai);
const [gateway, deployed, control] = await Promise.all([
  startGateway(),
  startGateway({ vars: { OPENAI_API_KEY: DEPLOYMENT_KEY }, outboundService: toUpstream }),
  startControl(),
]);
const world = {
  gateway: `${gateway.url}/v1`,
  deployed: `${deployed.url}/v1`,
  control: `http://127.0.0.1:${control.address().port}`,
  refusing: `http://127.0.0.1:${await refusingPort()}/v1`,
  adminKey: ADMIN_KEY,
  deploymentKey: DEPLOYMENT_KEY,
  openaiHost: OPENAI_HOST,
};

let running, stopped = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.on(signal, () => {
    stopped = true;
    running?.kill();
  });

const wanted = process.argv.slice(2);
const failed = [];
for (const [name, [command, args]] of Object.entries(SUITES)) {
  if (stopped || (wanted.length && !wanted.includes(name))) continue;
  console.log(`\n# ${name}`);
  running = spawn(command, args, { cwd: here, stdio: 'inherit', timeout: PATIENCE, env: { ...process.env, SPANGATE_WORLD: JSON.stringify(world) } });
  const [status] = await once(running, 'exit');
  if (status !== 0) failed.push(name);
}
const said = [...gateway.console, ...deployed.console].filter(line => !line.startsWith('stack:'));
if (failed.length) for (const line of said.slice(-20)) console.log(`worker: ${line}`);
console.log(failed.length ? `\n# failed: ${failed.join(', ')}` : '\n# clients: all suites passed');
await Promise.all([gateway.stop(), deployed.stop(), upstream.stop(), control.close()]);
process.exit(failed.length || stopped ? 1 : 0);

/** What `deployed` sends to OpenAI arrives at our upstream under the host's name. */
async function toUpstream(request) {
  const { hostname, pathname } = new URL(request.url);
  if (hostname !== OPENAI_HOST) return fetch(request.url, request);
  return fetch(`${upstream.origin}/${OPENAI_HOST}${pathname}`, { method: request.method, headers: request.headers, body: request.body, duplex: 'half' });
}

/** A request as the tests look at it; `abandoned` once the gateway has let it go before its answer was finished. */
function seen({ path, headers, body, abandonedAt }) {
  return { path, headers, body: JSON.parse(body), abandoned: abandonedAt !== null };
}

/** `POST /` `{key, scenarios}` writes the script of a key, answer by answer; `GET /<key>` reads what arrived for it. */
async function startControl() {
  const server = http.createServer(async (request, response) => {
    const reply = body => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (request.method === 'GET')
      return reply(upstream.requests(request.url.slice(1)).map(seen));
    const { key, scenarios } = JSON.parse(Buffer.concat(await request.toArray()));
    upstream.on(key, ...scenarios.map(name => SCENARIOS[name]));
    return reply({ base: upstream.base(key) });
  });
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  return server;
}
