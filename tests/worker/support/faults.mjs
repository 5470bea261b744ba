// Bindings that fail when they are told to, and are the real ones otherwise.
//
// Each is a wrapped binding: a class with the platform's name around the platform's own object. Before every operation it
// asks the test (a service binding that is a function in this process) whether to go on.
import { setTimeout as sleep } from 'node:timers/promises';

/** For the Worker under test, in the place of its real bindings. */
export const WRAPPED = {
  LOGS: { scriptName: 'faulty-queue' },
  DB: { scriptName: 'faulty-d1' },
  BODIES: { scriptName: 'faulty-r2' },
};

/**
 * The scripts behind them; `plan.failing` names what fails: `queue`, `d1`, `d1.write`, `d1.select`, `r2.put`, `r2.get`;
 * `plan.slow` says how many ms an operation of `queue`, `d1` or `r2` takes.
 */
export function faultWorkers(plan) {
  const serviceBindings = {
    ASK: async request => {
      const operation = new URL(request.url).pathname.slice(1);
      plan.calls.push(operation);
      if (operation === 'queue') plan.messages.push(...(await request.json()));
      const kind = operation.split('.')[0];
      if (plan.slow[kind]) await sleep(plan.slow[kind]);
      const { Response } = await import('miniflare');
      return new Response(plan.failing.has(operation) || plan.failing.has(kind) ? 'fail' : 'go');
    },
  };
  return [
    { name: 'faulty-queue', modules: [module('queue')], serviceBindings, queueProducers: { REAL: 'spangate-logs' } },
    { name: 'faulty-d1', modules: [module('d1')], serviceBindings, d1Databases: { REAL: 'spangate' } },
    { name: 'faulty-r2', modules: [module('r2')], serviceBindings, r2Buckets: { REAL: 'spangate-bodies' } },
  ];
}

const module = name => ({ type: 'ESModule', path: `faulty-${name}.mjs`, contents: ASKING + SOURCES[name] });

const ASKING = `
const asking = env => async (operation, body) => {
  const answer = await env.ASK.fetch('http://faults/' + operation, { method: 'POST', body });
  if ((await answer.text()) === 'fail') throw new Error('told to fail: ' + operation);
};
`;

const SOURCES = {
  queue: `
class WorkerQueue {
  #ask; #real;
  constructor(env) { this.#ask = asking(env); this.#real = env.REAL; }
  async send(body, options) { await this.#ask('queue', JSON.stringify([body])); return this.#real.send(body, options); }
  async sendBatch(messages, options) {
    const list = [...messages];
    await this.#ask('queue', JSON.stringify(list.map(message => message.body)));
    return this.#real.sendBatch(list, options);
  }
}
export default env => new WorkerQueue(env);`,
  d1: `
const words = sql => /^\\s*(select|with)/i.test(sql) ? 'd1.select' : 'd1.write';
class D1PreparedStatement {
  constructor(ask, real, sql) { this.ask = ask; this.real = real; this.sql = sql; }
  bind(...values) { return new D1PreparedStatement(this.ask, this.real.bind(...values), this.sql); }
  async run(...all) { await this.ask(words(this.sql)); return this.real.run(...all); }
  async all(...all) { await this.ask(words(this.sql)); return this.real.all(...all); }
  async raw(...all) { await this.ask(words(this.sql)); return this.real.raw(...all); }
  async first(...all) { await this.ask(words(this.sql)); return this.real.first(...all); }
}
class D1Database {
  #ask; #real;
  constructor(env) { this.#ask = asking(env); this.#real = env.REAL; }
  prepare(sql) { return new D1PreparedStatement(this.#ask, this.#real.prepare(sql), sql); }
  async batch(statements) {
    await this.#ask(statements.every(one => words(one.sql) === 'd1.select') ? 'd1.select' : 'd1.write');
    return this.#real.batch(statements.map(one => one.real));
  }
  async exec(sql) { await this.#ask(words(sql)); return this.#real.exec(sql); }
  withSession() { return this; }
  getBookmark() { return null; }
}
export default env => new D1Database(env);`,
  r2: `
class R2Bucket {
  #ask; #real;
  constructor(env) { this.#ask = asking(env); this.#real = env.REAL; }
  async put(...all) { await this.#ask('r2.put'); return this.#real.put(...all); }
  async get(...all) { await this.#ask('r2.get'); return this.#real.get(...all); }
  async head(...all) { await this.#ask('r2.get'); return this.#real.head(...all); }
  async list(...all) { await this.#ask('r2.get'); return this.#real.list(...all); }
  async delete(...all) { await this.#ask('r2.delete'); return this.#real.delete(...all); }
}
export default env => new R2Bucket(env);`,
};
