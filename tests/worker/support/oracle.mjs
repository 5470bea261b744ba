// What the gateway should do with a config and a fate for every attempt, written from protocol §2.3, §2.5 and §2.6 alone.
// It knows nothing of the gateway's code, and the gateway nothing of it.

const DEFAULT_RETRY_CODES = [429, 500, 502, 503, 504, 529];
const MOST_RETRIES = 5;

/**
 * `fate(leaf, nth)` says how the nth request (from 0) to `leaf` ends: `{ status, retryAfterMs? }`, `{ reset: true }` (also
 * inside a body that is not streamed), `{ refused: true }`, `{ hangs: true }` or `{ cut: true }` (a stream without its end,
 * after which nothing can be tried any more: the client has the beginning). Returns the attempts in order and the status that the caller gets.
 */
export function predict(config, fate) {
  const attempts = [];
  const asked = new Map();
  const budget = { left: 60_000 };
  const final = run(config, 'config', {}, undefined);
  // A stream that the strategy does not want is let go at its head: nobody sees that it would have been cut.
  for (const attempt of attempts.slice(0, -1)) if (attempt.error === 'stream_truncated') attempt.error = null;
  return { attempts, ...final };

  function run(node, path, above, cause) {
    const own = { retry: node.retry ?? above.retry, timeout: node.request_timeout || above.timeout };
    if (!node.strategy && !node.targets) return runLeaf(node, path, own, cause);
    const mode = node.strategy?.mode ?? 'single';
    if (mode === 'single') return run(node.targets[0], `${path}.targets[0]`, own, cause);
    const codes = node.strategy.on_status_codes;
    let result;
    for (const [index, target] of node.targets.entries()) {
      result = run(target, `${path}.targets[${index}]`, own, index ? 'fallback' : cause);
      const success = result.judged >= 200 && result.judged < 300;
      if (codes ? !codes.includes(result.judged) : success) break;
    }
    return result;
  }

  function runLeaf(leaf, path, { retry, timeout }, cause) {
    const allowed = Math.min(retry?.attempts ?? 0, MOST_RETRIES);
    const codes = retry?.on_status_codes ?? DEFAULT_RETRY_CODES;
    let obeyed = false;
    let wait = { ms: 0, reason: null };
    for (let retries = 0; ; retries++) {
      const nth = asked.get(leaf.id) ?? 0;
      asked.set(leaf.id, nth + 1);
      const end = { ...outcome(fate(leaf.id, nth), timeout), translated: leaf.provider === 'anthropic' };
      attempts.push({ target: path, leaf: leaf.id, retry: retries, reason: retries ? 'retry' : attempts.length ? cause : 'first', status: end.seen, provider: leaf.provider, error: end.error, waitMs: wait.ms, waitReason: wait.reason });
      const retriable = end.error === 'connect' || (!(end.status >= 200 && end.status <= 204) && codes.includes(end.status));
      if (!allowed || !retriable) return answer(end, path, retries);
      if (retries >= allowed) return answer(end, path, -1);
      if (retry.use_retry_after_header && end.seen === 429 && end.retryAfterMs !== undefined) {
        if (end.retryAfterMs >= 60_000 || end.retryAfterMs > budget.left) return answer(end, path, -1);
        budget.left -= end.retryAfterMs;
        obeyed = true;
        wait = { ms: end.retryAfterMs, reason: 'retry-after' };
      } else wait = obeyed ? { ms: 0, reason: null } : { ms: 1000 * 2 ** retries, reason: 'backoff' };
      if (!wait.ms) wait.reason = null;
    }
  }

  /** `judged` is what strategies see; the caller of a translated answer gets a standard status (conventions, error rules). */
  function answer(end, path, count) {
    return { status: end.translated && end.status === 529 ? 503 : end.status, judged: end.status, error: end.error, path, count };
  }

  /** `status` is what the rules see and the caller gets, `seen` what the span says. */
  function outcome(end, timeout) {
    if (end.reset || end.refused) return { status: 503, seen: null, error: 'connect' };
    if (end.hangs) return timeout ? { status: 408, seen: null, error: 'timeout' } : { status: 503, seen: null, error: 'connect' };
    if (end.cut) return { status: 200, seen: 200, error: 'stream_truncated' };
    return { status: end.status, seen: end.status, error: end.status >= 400 ? 'http_status' : null, retryAfterMs: end.retryAfterMs };
  }
}
