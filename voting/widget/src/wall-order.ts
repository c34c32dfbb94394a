// An order that is random for everybody together and always the same for one visitor.

/** Each one's place follows from seed and id alone: if somebody withdraws, nobody else moves. */
export const shuffled = <T extends { id: string }>(listed: T[], seed: number): T[] =>
  listed
    .map((one): [number, T] => [place(one.id, seed), one])
    .sort(([a], [b]) => a - b)
    .map(([, one]) => one);

// FNV-1a over the id, begun with the seed, and MurmurHash3's last steps, without which ids that
// differ in their last figure alone would stay neighbours.
const place = (id: string, seed: number): number => {
  let hash = seed ^ 0x811c9dc5;
  for (let at = 0; at < id.length; at++) hash = Math.imul(hash ^ id.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
};
