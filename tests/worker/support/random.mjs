// A small seeded generator (mulberry32): the same seed draws the same cases.
export function generator(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return { chance: share => next() < share, pick: list => list[Math.floor(next() * list.length)], count: (from, to) => from + Math.floor(next() * (to - from + 1)) };
}
