// What all elements of one campaign on this page share: people, counts, the device, its likes.
// A closure, not a class: what is inside costs no name in the built file.

import { ask } from './ask';
import { more } from './coming';
import { recall, remember } from './kept';
import type { Answer, Campaign, Like, Phase, View } from './types';

const REFRESH_MS = 5e3;
const SLOW_MS = 6e4;
const STALE_MS = 3e4; // so long cached counts may lack what an answer said
const KEPT_MS = 6e5; // an unsent click older than this is dropped; what was liked is asked anew

// Members that end in _ are of this bundle alone: the build gives them shorter names.
export interface OwnLike extends Like {
  /** 1 while a like is shown ahead of its answer. */
  bump_?: 0 | 1;
  /** It was counted in this page's life. */
  fresh_?: boolean;
  sending_?: boolean;
  /** Throttled until then (ms since 1970). */
  until_?: number;
  click?: string | null;
  since_?: number;
  dwell_ms?: number;
  tries_?: number;
  /** Which element was tapped: the event comes from there. */
  from_?: Element;
  floor_?: number;
  floorUntil_?: number;
  /** What the service says of a refusal for which there are no words here. */
  title_?: string;
  timer_?: number;
}

export interface Store extends Campaign {
  likes: Record<string, OwnLike | undefined>;
  /** What is left of today's quota; null = no quota, undefined = not known. */
  left_?: number | null;
  /** Somebody on this page is to be shown. */
  want_(candidate: string): void;
  /** Why there are no likes at all now: a word, '' = there are. */
  shut_(): string;
  tap_(candidate: string, from: Element): void;
  /** The page is seen, or the network there, again; `anew` = it was away for long. */
  wake_(anew: boolean): void;
  /** This page's origin is not one of the campaign's; undefined = not known. */
  foreign?: boolean;
}

export const makeStore = (base: string, id: string, identity: string | null): Store => {
  const key = base + ' ' + id;
  const views = new Set<View>();
  const wanted = new Set<string>();
  let few = 24; // of whom a page asks by name; of more it asks for the list
  let answeredAt = 0;
  let asked = 0;
  let pause = 0;
  let refreshing = false;
  let timer: number;
  let shown: number;
  let view: string | undefined;
  let newer: string | undefined;
  let phaseUntil = 0;
  let likedReadAt = 0;
  let identityToken: string | null;
  let minting: Promise<string | null | undefined> | null;

  const show = () => views.forEach((each) => each.render());

  // ---- what is public ----

  /** The next refresh, if anybody looks. */
  const plan = () => {
    clearTimeout(timer);
    if (refreshing) return;
    timer = setTimeout(refresh, asked + pause - Date.now());
  };

  const refresh = async () => {
    if (document.hidden || !views.size) return; // join and wake_ plan anew
    refreshing = true;
    asked = Date.now();
    store.away = false;
    const away = () => {
      store.away = true;
    };
    await Promise.all([readPeople(), readCounts(), readLiked()].map((job) => job.then(show, away)));
    // Nothing moves where it is over, nor where the counts are hidden.
    const quiet = store.phase === (store.counts ? 'closed' : 'open');
    pause = store.away ? Math.min(SLOW_MS, pause * 2 || REFRESH_MS) : quiet ? SLOW_MS : REFRESH_MS;
    refreshing = false;
    plan();
  };

  const read = async (what: string) => {
    const { status, body } = await ask(`${base}/v1/campaigns/${id}${what}`);
    if (status !== 200) throw status;
    return body;
  };

  const post = (what: string, content: object) =>
    ask(`${base}/v1/${what}`, Object.assign({ campaign: id }, content));

  const readPeople = async () => {
    const { people } = store;
    const unknown = Array.from(wanted).filter((one) => people[one] === undefined);
    if (!unknown[0] && (few >= 0 || store.everybody)) return;
    const all = wanted.size > few;
    const only = all ? '' : '?only=' + unknown.map(encodeURIComponent);
    const { candidates, withdrawn } = await read('/candidates' + only);
    for (const person of candidates.concat(withdrawn || [])) people[person.id] = person;
    for (const one of unknown) people[one] = people[one] || null;
    if (all) store.everybody = candidates;
  };

  const readCounts = async () => {
    const body = await read('/counts');
    store.counts = body.counts; // null where they are hidden
    // The last but one: of a key in use, and older than one refresh, so that dwell_ms may be.
    view = newer || body.view;
    newer = body.view;
    shown = shown || Date.now();
    if (Date.now() > phaseUntil) enter(body.state, body);
  };

  const enter = (phase: Phase, about: NonNullable<Store['about']>) => {
    if (!about.opens_at) return;
    store.phase = phase;
    store.about = about;
  };

  // ---- the device ----

  const readLiked = async () => {
    if (likedReadAt) return;
    const now = Date.now();
    const token = identity ? await deviceToken(true) : kept();
    if (token) {
      const { status, body } = await post('devices/state', { token });
      if (status === 200) {
        // What was answered meanwhile is newer than this.
        if (answeredAt < now) {
          for (const one of Object.keys(store.likes)) likeOf(one).liked = likeOf(one).fresh_ = false;
        }
        for (const one of body.liked) likeOf(one).liked = true;
        store.left_ = body.remaining_today;
      } else if (status < 402) forget(token); // 401; 400 where it is no token at all
      else throw status;
    }
    likedReadAt = now;
  };

  /** An identity's token lives as long as the page: it is asked for anew with each, so that nothing
   * of whom it stands for is kept, and nobody else who uses this browser gets it. */
  const kept = () => (identity ? identityToken : recall(key));

  const keep = (token: string | null) => {
    if (identity) identityToken = token;
    else remember(key, token);
  };

  const forget = (token: string) => {
    if (kept() === token) keep(null);
    dropView(); // it may be of the same lost key
  };

  const dropView = () => {
    view = newer = undefined;
  };

  /** The device's token, made on first need; one request however many cards want it. `look`: only of
   * whom the portal knows, or if there is one: nobody becomes a device by looking. */
  const deviceToken = (look?: boolean) => {
    const done = () => (minting = null);
    if (!minting) {
      minting = Promise.resolve(kept() || mint(look));
      minting.then(done, done);
    }
    return minting;
  };

  const mint = async (look?: boolean): Promise<string | null | undefined> => {
    let answer;
    if (identity) answer = await (await more()).identify(identity, post);
    if (!answer) {
      identity = null; // nobody who is known to the portal: the anonymous device
      if (look || kept()) return kept();
      answer = await post('devices', {});
    }
    if (answer.status !== 201) throw answer;
    // Another tab may have been faster: then this is its device's.
    if (!kept()) {
      const { token, challenge } = answer.body;
      keep(token);
      if (challenge) await prove(token, challenge);
    }
    return kept()!;
  };

  const prove = (token: string, challenge: unknown) =>
    more().then((they) => they.prove(store, token, challenge, kept, keep));

  // ---- its likes ----

  const likeOf = (candidate: string): OwnLike =>
    store.likes[candidate] ||
    (store.likes[candidate] = { candidate });

  const send = async (like: OwnLike) => {
    clearTimeout(like.timer_);
    like.sending_ = true;
    show();
    let answer: any;
    try {
      for (let tries = 0; tries < 3; tries++) {
        // The first may have been a look.
        const token = ((await deviceToken()) || (await deviceToken()))!;
        const { candidate, click, dwell_ms } = like;
        answer = await post('likes', { token, candidate, click, view, dwell_ms });
        const { challenge } = answer.body;
        if (challenge) await prove(token, challenge);
        else if (answer.status === 401 && !tries) forget(token);
        else break;
      }
    } catch (why) {
      answer = why;
    }
    like.sending_ = false;
    like.bump_ = like.floorUntil_ = 0;
    if (answer.status) settle(like, answer);
    else wait(like);
    show();
  };

  const settle = (like: OwnLike, { status, body, wait }: Answer) => {
    const { candidate } = like;
    const { outcome, likes, receipt } = body;
    const word = (status < 500 && outcome) || 'busy'; // a firewall's refusal has none
    const now = Date.now();
    answeredAt = now;
    like.state = word;
    like.title_ = body.title;
    if (status < 300) {
      like.liked = true;
      like.fresh_ = word === 'counted';
      like.floor_ = likes;
      like.receipt = receipt || like.receipt; // 'repeated' has none of its own
      like.floorUntil_ = now + STALE_MS;
    } else if (status === 429) {
      like.until_ = now + wait * 1e3;
      countDown(like);
    } else {
      tell(like, word);
    }
    if ('remaining_today' in body) store.left_ = body.remaining_today;
    if (body.opens_at) phaseUntil = now + STALE_MS;
    enter(word, body);
    if (word === 'refused') dropView(); // if it was for that, the next tap is not
    // Throttled or busy (429 and 5xx): it may be counted already, so that the next tap is the same click.
    if (status < 429) like.click = null;
    const detail = { candidate, outcome, likes, receipt };
    like.from_!.dispatchEvent(new CustomEvent('like', { bubbles: true, composed: true, detail }));
  };

  /** Says a word for a while. */
  const tell = (like: OwnLike, word: string) => {
    clearTimeout(like.timer_);
    like.state = word;
    like.timer_ = setTimeout(clear, 6e3, like);
  };

  const clear = (like: OwnLike) => {
    like.state = '';
    show();
  };

  const countDown = (like: OwnLike) => {
    if (like.until_! <= Date.now()) return clear(like);
    like.timer_ = setTimeout(countDown, 500, like);
    show();
  };

  /** No answer: the click is kept, and sent again when there may be a network. */
  const wait = (like: OwnLike) => {
    like.state = 'offline';
    like.timer_ = setTimeout(resend, Math.min(SLOW_MS, REFRESH_MS * 2 ** like.tries_!++), like);
    // A page of an origin that the campaign does not list may not read why its like was refused,
    // which looks the same.
    more().then(
      (they) => they.checkOrigin(store, () => drop(like, 'wrong-origin')),
      () => {}
    );
  };

  const drop = (like: OwnLike, word: string) => {
    like.click = null;
    tell(like, word);
    show();
  };

  const resend = (like: OwnLike) => {
    if (like.state !== 'offline' || like.sending_) return;
    clearTimeout(like.timer_);
    if (navigator.onLine === false) wait(like);
    else if (Date.now() - like.since_! > KEPT_MS) drop(like, 'dropped');
    else send(like);
  };

  const store: Store = {
    base,
    id,
    people: Object.create(null),
    likes: Object.create(null),
    phase: 'open',
    read,
    post,
    show,
    want_(candidate) {
      wanted.add(candidate);
      pause = Math.min(pause, REFRESH_MS);
    },
    wantEverybody() {
      few = -1;
      asked = 0;
      plan();
    },
    join(newcomer) {
      views.add(newcomer);
      newcomer.render();
      plan();
    },
    leave: (old) => views.delete(old),
    shut_: () => (store.foreign ? 'wrong-origin' : store.phase === 'open' ? '' : store.phase),
    tap_(candidate, from) {
      const like = likeOf(candidate);
      const now = Date.now();
      if (like.sending_ || like.until_! > now) return;
      if (store.shut_()) return drop(like, store.shut_());
      if (!like.click || now - like.since_! > KEPT_MS) {
        like.click = crypto.getRandomValues(new Uint32Array(4)).join('-');
        like.since_ = now;
        like.dwell_ms = now - shown;
      }
      // A second like of the day may be allowed: the server knows, so nothing is shown ahead.
      if (!like.liked) {
        like.bump_ = 1;
        like.floor_ = store.counts ? store.counts[candidate]! + 1 : 0;
        like.floorUntil_ = Infinity; // of its answer
      }
      like.state = '';
      like.tries_ = 0;
      like.from_ = from;
      send(like);
    },
    wake_(anew) {
      if (anew || Date.now() - likedReadAt > KEPT_MS) likedReadAt = 0;
      pause = Math.min(pause, REFRESH_MS);
      plan();
      for (const one of Object.keys(store.likes)) resend(likeOf(one));
    },
  };
  return store;
};
