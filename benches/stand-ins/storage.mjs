// What stands in for D1 and R2: answers every query emptily and counts, since the hot path must touch neither.
let calls = 0;

export default {
  fetch(request) {
    if (new URL(request.url).pathname === '/count') return Response.json({ calls });
    calls += 1;
    return Response.json({ success: true, results: [], meta: {} });
  },
};
