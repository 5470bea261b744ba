// A client that shows everything: exact bytes, raw headers, and when each chunk came. No decoding, no redirects, no retries.
import http from 'node:http';

/** Sends one request and resolves with the head; the body is read by `whole()` or piece by piece. */
export function open(url, { method = 'POST', headers = {}, body, signal } = {}) {
  return new Promise((done, fail) => {
    // A connection of its own, so that leaving closes it and nobody else's fate is shared.
    const request = http.request(url, { method, headers, agent: false, signal }, message => {
      const chunks = [];
      const response = { status: message.statusCode, headers: message.headers, rawHeaders: message.rawHeaders, chunks, headAt: Date.now(), error: null, complete: false };
      const waiting = [];
      let over = false;
      const wake = () => waiting.splice(0).forEach(go => go());
      message.on('data', chunk => (chunks.push({ at: Date.now(), chunk }), wake()));
      message.on('error', error => ((response.error = error), (over = true), wake()));
      message.on('close', () => ((response.complete = message.complete), (over = true), wake()));
      response.body = () => Buffer.concat(chunks.map(({ chunk }) => chunk));
      response.text = () => response.body().toString();
      response.json = () => JSON.parse(response.text());
      response.closed = async () => {
        while (!over) await new Promise(go => waiting.push(go));
        return response;
      };
      /** Resolves once `enough(text so far)` holds, or the body is over. */
      response.until = async enough => {
        while (!over && !enough(response.text())) await new Promise(go => waiting.push(go));
        return response.text();
      };
      response.leave = () => request.destroy();
      done(response);
    });
    request.on('error', fail);
    request.end(body);
  });
}

/** One request, one whole response. */
export async function send(url, options) {
  const response = await (await open(url, options)).closed();
  if (response.error) throw response.error;
  return response;
}

/** The `data:` payloads of an event stream, in order, with their event names. */
export function events(text) {
  return text
    .split(/\r?\n\r?\n/)
    .filter(block => block.trim())
    .map(block => {
      const lines = block.split(/\r?\n/);
      const field = name => lines.filter(line => line.startsWith(`${name}:`)).map(line => line.slice(name.length + 1).replace(/^ /, ''));
      return { event: field('event')[0], data: field('data').join('\n') };
    });
}
