// What stands behind the gateway: an OpenAI and an Anthropic that answer what they are asked, and the ways in which they
// fail. Each name below is a script for `tests/worker/support/upstream.mjs`; a test in any language asks for it by name.
import { chat, chatEvents, json, never, sse } from '../worker/support/upstream.mjs';

const CUT_TEXT = 'one two three four';

/** Everything a test may ask for: an answer, or a function of the request that gives one. */
export const SCENARIOS = {
  openai: request => openai(JSON.parse(request.body), request.path),
  anthropic: request => anthropic(JSON.parse(request.body)),
  silent: never(),
  'openai-slow': json(chat('late'), { delay: 1500 }),
  'openai-long': sse(chatEvents('word '.repeat(200), { usage: null }), { gap: 50 }),
  'openai-cut': sse(chatEvents(CUT_TEXT, { usage: null }).slice(0, 3), { ending: 'reset' }),
  'openai-no-done': sse(chatEvents(CUT_TEXT, { usage: null }).slice(0, 3)),
  'openai-error-event': sse([...chatEvents(CUT_TEXT, { usage: null }).slice(0, 3), `data: ${JSON.stringify(openaiError('The model broke down.', 'server_error'))}\n\n`]),
  'openai-body-cut': json('{"id":"chatcmpl-1","choices":[{"mess', { headers: { 'content-length': '500' }, ending: 'reset' }),
  'anthropic-cut': () => sse(messageEvents(textBlocks(CUT_TEXT)).slice(0, 4), { ending: 'reset' }),
  'anthropic-429': json({ type: 'error', error: { type: 'rate_limit_error', message: 'Too many requests for your plan.' } }, { status: 429 }),
  'anthropic-529': json({ type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }, { status: 529 }),
  ...Object.fromEntries(
    [
      [400, 'This model’s maximum context length is 8192 tokens.', 'invalid_request_error', 'context_length_exceeded'],
      [401, 'Incorrect API key provided.', 'invalid_request_error', 'invalid_api_key'],
      [403, 'Country, region, or territory not supported.', 'request_forbidden', 'unsupported_country_region_territory'],
      [404, 'The model `gpt-0` does not exist.', 'invalid_request_error', 'model_not_found'],
      [409, 'The resource was updated by another request.', 'conflict', null],
      [422, 'The request could not be processed.', 'invalid_request_error', null],
      [429, 'Rate limit reached for requests.', 'requests', 'rate_limit_exceeded'],
      [500, 'The server had an error while processing your request.', 'server_error', null],
      [503, 'The engine is currently overloaded.', 'server_error', null],
    ].map(([status, message, type, code]) => [`openai-${status}`, json(openaiError(message, type, code), { status })]),
  ),
};

function openaiError(message, type, code = null) {
  return { error: { message, type, param: null, code } };
}

// ---- OpenAI -------------------------------------------------------------------------------------------------------------

/** Echoes the last message; calls every tool it is offered, and then says what the tools said. */
function openai(request, path) {
  if (path.endsWith('/embeddings')) return json(embeddings(request));
  const calls = callsFor(request);
  const usage = request.stream && !request.stream_options?.include_usage ? null : undefined;
  if (!calls.length) return request.stream ? sse(chatEvents(echo(request), { usage })) : json(chat(echo(request)));
  return request.stream ? sse(toolEvents(calls, usage)) : json(toolAnswer(calls));
}

/** The arguments that a tool of this name is called with. */
const ARGUMENTS = { get_weather: { city: 'Łódź "north"' }, get_time: {} };

function callsFor({ tools = [], messages }) {
  if (messages.at(-1).role === 'tool') return [];
  return tools.map(({ function: { name } }, index) => ({ id: `call_${index}`, type: 'function', function: { name, arguments: JSON.stringify(ARGUMENTS[name]) } }));
}

function echo({ messages }) {
  const results = messages.filter(message => message.role === 'tool').map(message => `${message.tool_call_id}: ${message.content}`);
  return results.length ? results.join('; ') : messages.at(-1).content;
}

function toolAnswer(tool_calls) {
  const answer = chat();
  answer.choices[0].message = { role: 'assistant', content: null, refusal: null, tool_calls };
  answer.choices[0].finish_reason = 'tool_calls';
  return answer;
}

function toolEvents(calls, usage) {
  const [head, , , ...tail] = chatEvents('x', { usage });
  const delta = (tool_calls, finish_reason = null) => {
    const chunk = JSON.parse(head.slice('data: '.length));
    chunk.choices = [{ index: 0, delta: tool_calls ? { tool_calls } : {}, finish_reason }];
    return `data: ${JSON.stringify(chunk)}\n\n`;
  };
  const pieces = text => text.match(/[^]{1,7}/g);
  const events = calls.flatMap((call, index) => [
    delta([{ ...call, index, function: { name: call.function.name, arguments: '' } }]),
    ...pieces(call.function.arguments).map(piece => delta([{ index, function: { arguments: piece } }])),
  ]);
  return [head, ...events, delta(null, 'tool_calls'), ...tail];
}

/** 0.5, -0.25, 1, and the number of the input. */
function embeddings({ input, encoding_format, model }) {
  const data = [input].flat().map((_, index) => {
    const vector = [0.5, -0.25, 1, index];
    return { object: 'embedding', index, embedding: encoding_format === 'base64' ? Buffer.from(Float32Array.from(vector).buffer).toString('base64') : vector };
  });
  return { object: 'list', data, model, usage: { prompt_tokens: 8, total_tokens: 8 } };
}

// ---- Anthropic ----------------------------------------------------------------------------------------------------------

/** The same manners in Anthropic's words; what it does not like it refuses, as the real one does. */
function anthropic(request) {
  if (!(request.max_tokens > 0)) return json({ type: 'error', error: { type: 'invalid_request_error', message: 'max_tokens: Field required' } }, { status: 400 });
  const last = request.messages.at(-1);
  const results = [last.content].flat().filter(block => block.type === 'tool_result');
  const said = [last.content].flat().map(block => block.text ?? block).join('');
  const content = results.length
    ? textBlocks(results.map(block => `${block.tool_use_id}: ${[block.content].flat().map(part => part.text ?? part).join('')}`).join('; '))
    : request.tools?.length
      ? request.tools.map(({ name }, index) => ({ type: 'tool_use', id: `toolu_${index}`, name, input: ARGUMENTS[name] }))
      : textBlocks(said);
  return request.stream ? sse(messageEvents(content)) : json(message(content));
}

const textBlocks = text => [{ type: 'text', text }];
const stopReason = content => (content.some(block => block.type === 'tool_use') ? 'tool_use' : 'end_turn');

function message(content) {
  return {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model: 'claude-sonnet-4-5-20250929',
    content,
    stop_reason: stopReason(content),
    stop_sequence: null,
    usage: { input_tokens: 1000, output_tokens: 200 },
  };
}

function messageEvents(content) {
  const events = [{ type: 'message_start', message: { ...message([]), stop_reason: null, usage: { input_tokens: 1000, output_tokens: 1 } } }];
  for (const [index, block] of content.entries()) {
    const text = block.type === 'text';
    events.push({ type: 'content_block_start', index, content_block: text ? { type: 'text', text: '' } : { ...block, input: {} } });
    const pieces = text ? block.text.split(/(?<= )/) : (JSON.stringify(block.input).match(/[^]{1,7}/g) ?? []);
    for (const piece of pieces) events.push({ type: 'content_block_delta', index, delta: text ? { type: 'text_delta', text: piece } : { type: 'input_json_delta', partial_json: piece } });
    events.push({ type: 'content_block_stop', index });
  }
  events.push({ type: 'message_delta', delta: { stop_reason: stopReason(content), stop_sequence: null }, usage: { output_tokens: 200 } }, { type: 'message_stop' });
  return events.map(event => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
}
