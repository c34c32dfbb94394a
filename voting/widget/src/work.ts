// The work of a challenge. like-more.js loads it where one is set.

import type { Answer, Campaign, Core } from './types';

interface Parameters {
  salt: string;
  nonce: string;
  keyPrefix: string;
  data: { wait: number };
}
interface Challenge {
  parameters: Parameters;
}
interface Solution {
  counter: number;
  derivedKey: string;
}
type Solver = (times: number) => Solution | null;

const GIVE_UP_MS = 8e3; // then the way with rather less work and a wait
const GIVE_UP_WEAK_MS = 3e3;
const SLOW_MOST_MS = 1e5;
const TRIES = 4;
const VALID_MS = 11e4; // a challenge's 120 s, less what the way takes
const SLICE = 500; // hashes: 10 ms where a phone is slow

// Tries counters from 0 on until SHA-256(salt, nonce, counter), always one block, begins with the
// prefix. What it returns tries so many more; null = not among these. Self-contained, for its
// source is a worker's as well. By hand: WebCrypto is missing on pages without TLS, and a call
// of it takes longer than a hash.
const makeSolver = (challenge: Parameters): Solver => {
  const K = new Int32Array(64);
  const HEX =
    '428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5d807aa9812835b01243185be' +
    '550c7dc372be5d7480deb1fe9bdc06a7c19bf174e49b69c1efbe47860fc19dc6240ca1cc2de92c6f4a7484aa' +
    '5cb0a9dc76f988da983e5152a831c66db00327c8bf597fc7c6e00bf3d5a7914706ca63511429296727b70a85' +
    '2e1b21384d2c6dfc53380d13650a7354766a0abb81c2c92e92722c85a2bfe8a1a81a664bc24b8b70c76c51a3' +
    'd192e819d6990624f40e3585106aa07019a4c1161e376c082748774c34b0bcb5391c0cb34ed8aa4a5b9cca4f' +
    '682e6ff3748f82ee78a5636f84c878148cc7020890befffaa4506cebbef9a3f7c67178f2';
  const word = (hex: string, n: number) => parseInt(hex.slice(8 * n, 8 * n + 8), 16) | 0;
  for (let n = 0; n < 64; n++) K[n] = word(HEX, n);
  const H = new Int32Array([
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  ]);
  const W = new Int32Array(64);
  for (let n = 0; n < 4; n++) {
    W[n] = word(challenge.salt, n);
    W[n + 4] = word(challenge.nonce, n);
  }
  W[9] = 1 << 31;
  W[15] = 288; // its length in bits
  const hash = new Int32Array(8);
  const digest = () => {
    for (let n = 16; n < 64; n++) {
      const x = W[n - 15];
      const y = W[n - 2];
      const x0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const y0 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      W[n] = (W[n - 16] + x0 + W[n - 7] + y0) | 0;
    }
    let a = H[0];
    let b = H[1];
    let c = H[2];
    let d = H[3];
    let e = H[4];
    let f = H[5];
    let g = H[6];
    let h = H[7];
    for (let n = 0; n < 64; n++) {
      const e0 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t = (h + e0 + ((e & f) ^ (~e & g)) + K[n] + W[n]) | 0;
      const a0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const u = (a0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t) | 0;
      d = c;
      c = b;
      b = a;
      a = (t + u) | 0;
    }
    hash[0] = a + H[0];
    hash[1] = b + H[1];
    hash[2] = c + H[2];
    hash[3] = d + H[3];
    hash[4] = e + H[4];
    hash[5] = f + H[5];
    hash[6] = g + H[6];
    hash[7] = h + H[7];
  };
  const first = word(challenge.keyPrefix, 0);
  const hex = (number: number) => ('0000000' + (number >>> 0).toString(16)).slice(-8);
  let counter = 0;
  return (times) => {
    for (const end = counter + times; counter < end; counter++) {
      W[8] = counter;
      digest();
      if (hash[0] !== first) continue;
      const derivedKey = Array.from(hash, hex).join('');
      if (!derivedKey.indexOf(challenge.keyPrefix)) return { counter, derivedKey };
    }
    return null;
  };
};
const serve = (makeSolver: (challenge: Parameters) => Solver) => {
  self.onmessage = ({ data }) => {
    const tryMore = makeSolver(data);
    let found = null;
    while (!found) found = tryMore(1e4);
    self.postMessage(found);
  };
};
const script = self.document && (document.currentScript as HTMLScriptElement);
// Without a document this is the worker.
if (!script) serve(makeSolver);

// This very file where the page may have it as a worker, else its source as a blob.
const makeWorker = () => {
  const { src } = script;
  if (new URL(src).origin === location.origin) return new Worker(src);
  const url = URL.createObjectURL(
    new Blob([`(${serve})(${makeSolver})`], { type: 'text/javascript' })
  );
  const worker = new Worker(url);
  setTimeout(() => URL.revokeObjectURL(url), GIVE_UP_MS);
  return worker;
};

// {counter, derivedKey}; null where it took longer than `most` milliseconds.
const solve = (parameters: Parameters, most: number): Promise<Solution | null> =>
  new Promise((done) => {
    let worker: Worker | null | undefined;
    let ended = false;
    const end = (found: Solution | null) => {
      ended = true;
      clearTimeout(timer);
      if (worker) worker.terminate();
      done(found);
    };
    const timer = setTimeout(() => end(null), most);
    // Where a policy forbids workers, or there are none: in slices, between which the page lives.
    const solveBeside = () => {
      const tryMore = makeSolver(parameters);
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        const found = ended || tryMore(SLICE);
        if (!found) return port2.postMessage(0);
        port1.close();
        if (!ended) end(found as Solution);
      };
      port2.postMessage(0);
    };
    try {
      worker = makeWorker();
      worker.onmessage = ({ data }) => end(data);
      worker.onerror = (event) => {
        event.preventDefault();
        worker = null;
        if (!ended) solveBeside();
      };
      worker.postMessage(parameters);
    } catch (_) {
      solveBeside();
    }
  });

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));
const weak = (navigator as any).deviceMemory <= 1 || navigator.hardwareConcurrency < 2;

// The answer to a solution. Where there is no room for it now, the same one again when there may
// be: no phone works twice for that.
const handIn = async (campaign: Campaign, wanted: object, until: number): Promise<Answer> => {
  for (;;) {
    const answer = await campaign.post('devices/proof', wanted);
    const again = answer.wait * 1e3;
    if ((answer.status !== 503 && answer.status !== 429) || Date.now() + again > until) return answer;
    await pause(again);
  }
};

// The better token; null where there is none to be had now. Says in `campaign.working` what the
// visitor waits for.
const work = async (
  campaign: Campaign,
  token: string,
  challenge: Challenge | false,
  texts: Core['say']
): Promise<string | null> => {
  const say = (word: string, seconds?: number) => {
    campaign.working = (element) => texts(element, word, seconds);
    campaign.show();
  };
  for (let tries = 0; tries < TRIES && challenge; tries++) {
    const { parameters } = challenge;
    const { wait } = parameters.data;
    const begun = Date.now();
    const due = begun + wait * 1e3;
    const most = wait ? SLOW_MOST_MS : weak ? GIVE_UP_WEAK_MS : GIVE_UP_MS;
    say(wait ? 'working-about' : 'working', wait);
    const solution = await solve(parameters, most);
    const wanted: { token: string; slow: boolean; solution?: string } = {
      token,
      slow: !solution || wait > 0,
    };
    if (solution) {
      for (let left; (left = due - Date.now()) > 0; ) {
        say('working-left', Math.ceil(left / 1e3));
        await pause(Math.min(1e3, left));
      }
      wanted.solution = btoa(JSON.stringify({ challenge, solution }));
    }
    const { status, body } = await handIn(campaign, wanted, begun + VALID_MS);
    if (status === 200) return body.token;
    challenge = status === 428 && body.challenge;
  }
  return null;
};
if (script) (script as any).run = work;
