// What stands in for the queue: takes the messages of the producer binding and says how many records were in them.
//
// A bare workerd turns `send` into POST /message and `sendBatch` into POST /batch, and wants JSON back. The texts are
// read when the rig asks, so that counting takes no CPU from a round.
let texts = [];
const total = { messages: 0, records: 0, bytes: 0, malformed: 0 };

function tally(text) {
  total.messages += 1;
  total.bytes += text.length;
  try {
    const records = JSON.parse(text);
    if (!Array.isArray(records)) throw new TypeError('a message is an array of records');
    total.records += records.length;
  } catch {
    total.malformed += 1;
  }
}

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === '/count') {
      texts.splice(0).forEach(tally);
      return Response.json(total);
    }
    const text = new TextDecoder().decode(await request.arrayBuffer());
    if (pathname === '/batch') texts.push(...JSON.parse(text).messages.map(({ body }) => atob(body)));
    else texts.push(text);
    return Response.json({ metadata: { metrics: { backlogCount: 0, backlogBytes: 0 } } });
  },
};
