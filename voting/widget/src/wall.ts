// <like-wall>: all candidates of a campaign, to be searched, filtered, looked through and liked.

import type { MakeWall, Person, Texts, View } from './types';
import { found, haystack, words } from './wall-find';
import { shuffled } from './wall-order';

/** A candidate's: in the list as far as it is found. */
interface Place {
  person: Person;
  item?: HTMLLIElement;
  /** What is in the item: the name, and then the card. */
  box?: HTMLElement;
  card?: View;
  /** What is searched in. */
  hay?: string;
}

const SLICE_MS = 4; // of building cards in a frame; then the page has its turn
const PLACES_A_FRAME = 24; // all 750 at once would hold a slow phone for a quarter of a second
const TYPING_MS = 120;
const AGAIN_MS = 5e3;
const WAITING_PLACES = 12; // empty ones, until the candidates are there

const TEXTS: Record<string, Texts> = {
  zh: {
    find: '搜索姓名、单位',
    channel: '推荐渠道',
    channels: '全部渠道',
    people: '候选人',
    all: '共 {} 位候选人',
    found: '找到 {} 位候选人',
    nobody: '没有找到符合条件的候选人',
    everybody: '显示全部',
    loading: '正在加载…',
    unreachable: '暂时无法连接，稍后自动重试',
  },
  en: {
    find: 'Search name, organisation',
    channel: 'Channel',
    channels: 'All channels',
    people: 'Candidates',
    all: 'Candidates: {}',
    found: 'Found: {}',
    nobody: 'Nobody matches',
    everybody: 'Show everybody',
    loading: 'Loading…',
    unreachable: 'Cannot be reached, will try again',
  },
};

const makeWall: MakeWall = (wall, root, campaign, core) => {
  const { make, write } = core;
  const say = (word: string, value?: number) => core.say(wall, word, value, TEXTS);

  const whole = make(root, 'div', { part: 'wall' });
  core.dress(root, 'like-wall.css', whole);
  const bar = make(whole, 'div', { class: 'bar', part: 'bar', role: 'search' });
  const search: HTMLInputElement = make(bar, 'input', {
    type: 'search',
    part: 'search',
    'aria-label': say('find'),
    placeholder: say('find'),
    autocomplete: 'off',
    enterkeyhint: 'search',
    maxlength: 60,
  });
  const select: HTMLSelectElement = make(bar, 'select', {
    part: 'channel',
    'aria-label': say('channel'),
  });
  const option = (value: string, text: string) => write(make(select, 'option', { value }), text);
  option('', say('channels'));
  const number = make(bar, 'p', { class: 'found', role: 'status' });
  write(number, say('loading'));
  const none = make(whole, 'div', { class: 'none' });
  none.hidden = true;
  const why = make(none, 'p');
  const reset: HTMLButtonElement = make(none, 'button', { type: 'button', part: 'reset' });
  write(reset, say('everybody'));
  const fallback = make(none, 'slot'); // what stands inside the element for those without a script
  const list: HTMLUListElement = make(whole, 'ul', {
    class: 'list',
    part: 'list',
    role: 'list', // which Safari takes from a list without bullets
    'aria-label': say('people'),
  });
  for (let at = 0; at < WAITING_PLACES; at++) {
    make(make(list, 'li', { 'aria-hidden': true }), 'div', { class: 'place' });
  }

  let everybody: Place[] | undefined; // in this visitor's order
  let fits: Place[] = []; // what the visitor looks for
  let shown: Place[] = []; // the first of them, which are in the list
  let near: Place[] = [];
  let order: string | undefined;
  let asked = 0;
  let frame = 0;
  let typing = 0;
  let composing = false;
  let listening = false;

  // How the campaign wants its candidates to be ordered; asked for until it was heard.
  const ask = () => {
    if (order || Date.now() - asked < AGAIN_MS) return;
    asked = Date.now();
    campaign.read('').then(
      ({ rules }) => {
        order = rules.order;
        view.render();
      },
      unreachable,
    );
  };

  const unreachable = () => {
    write(number, '');
    write(why, say('unreachable'));
    none.hidden = false;
    list.hidden = reset.hidden = true;
  };

  // The seed never leaves the device: all fetch the same list, and caches keep one copy of it.
  const ordered = (people: Person[]) => {
    if (order === 'listed') return people;
    const name = `${campaign.base} ${campaign.id} seed`;
    let seed = +(core.recall(name) || 0);
    if (!seed) {
      seed = crypto.getRandomValues(new Uint32Array(1))[0]! || 1;
      core.remember(name, String(seed));
    }
    return shuffled(people, seed);
  };

  const open = (people: Person[]) => {
    everybody = ordered(people).map((person) => ({ person }));
    const channels = new Map<string, number>();
    for (const { channel } of people) {
      if (channel) channels.set(channel, (channels.get(channel) || 0) + 1);
    }
    channels.forEach((many, channel) => option(channel, `${channel} (${many})`));
    select.hidden = channels.size < 2;
    fallback.hidden = true;
    list.hidden = false;
    list.textContent = '';
    filter();
    if (location.hash) follow();
  };

  const hayOf = (place: Place) => place.hay || (place.hay = haystack(place.person));

  const filter = () => {
    const wanted = words(search.value);
    const channel = select.value;
    const before = fits;
    fits = everybody!.filter((place) => {
      if (channel && place.person.channel !== channel) return false;
      return !wanted.length || found(hayOf(place), wanted);
    });
    if (fits.length !== before.length || fits.some((place, at) => place !== before[at])) {
      shown = [];
      list.textContent = '';
      grow(PLACES_A_FRAME);
    }
    const narrowed = !!channel || wanted.length > 0;
    write(number, say(narrowed ? 'found' : 'all', fits.length));
    write(why, say('nobody'));
    none.hidden = fits.length > 0;
    reset.hidden = !narrowed;
  };

  // Some more get their place in the list. Their name is there before their card: for screen
  // readers, and for the browser's own search.
  const grow = (many: number) => {
    for (const place of fits.slice(shown.length, shown.length + many)) {
      if (place.item) {
        list.appendChild(place.item);
      } else {
        hayOf(place); // now, not all with the first letter that is typed
        place.item = make(list, 'li');
        place.box = make(place.item!, 'div', { class: 'place' });
        write(make(place.box!, 'h3', { class: 'name' }), place.person.name);
      }
      shown.push(place);
    }
    soon();
  };

  // What the visitor chose: its beginning is brought back where it was scrolled past.
  const choose = () => {
    if (!everybody || composing) return;
    filter();
    if (whole.getBoundingClientRect().top < 0) whole.scrollIntoView({ behavior: 'instant' });
  };

  // Which cards are near is arithmetic, as all places are of one size: a look at three of them
  // whatever the number of candidates, instead of an observer for each.
  const around = (): Place[] => {
    // All by one measure: a page may zoom or scale what it shows.
    const topOf = ({ item }: Place) => item!.getBoundingClientRect().top;
    const top = topOf(shown[0]!);
    const columns = shown.findIndex((place) => topOf(place) > top + 1);
    if (columns < 0) return shown; // in one row
    const last = shown.length - 1;
    const row = (topOf(shown[last]!) - top) / Math.floor(last / columns);
    const at = (y: number) => Math.max(0, Math.floor((y - top) / row) * columns);
    const first = at(0);
    return [
      ...shown.slice(first, at(2 * innerHeight) + columns),
      ...shown.slice(at(-innerHeight), first).reverse(),
    ];
  };

  const build = (place: Place) => {
    place.box!.textContent = '';
    const card = core.makeCard(place.box!, wall, campaign, place.person.id);
    place.card = card;
    card.render();
  };

  const look = () => {
    frame = 0;
    if (!list.isConnected) return listen(false);
    if (!shown.length || !list.offsetParent) return;
    const was = near;
    near = around();
    // News does not reach those that are far away.
    for (const place of near) if (place.card && was.indexOf(place) < 0) place.card.render();
    if (shown.length < fits.length) grow(Math.max(PLACES_A_FRAME, fits.length >> 5));
    const until = performance.now() + SLICE_MS;
    for (const place of near) {
      if (place.card) continue;
      if (performance.now() > until) return soon();
      build(place);
    }
  };

  const soon = () => {
    frame = frame || requestAnimationFrame(look);
  };

  // #like-<id> leads to one candidate.
  const follow = () => {
    const place =
      everybody &&
      everybody.find(({ person }) => '#like-' + encodeURIComponent(person.id) === location.hash);
    if (!place) return;
    if (fits.indexOf(place) < 0) clear();
    grow(Infinity);
    if (!place.card) build(place);
    place.item!.tabIndex = -1;
    place.item!.focus();
  };

  const clear = () => {
    search.value = select.value = '';
    filter();
  };

  // A wall in what is shown later only, such as a tab, is not scrolled to.
  const observer = window.IntersectionObserver && new IntersectionObserver(soon);

  const listen = (on: boolean) => {
    if (listening === on) return;
    listening = on;
    const change = on ? addEventListener : removeEventListener;
    change('scroll', soon, { capture: true, passive: true }); // of whatever it is in
    change('resize', soon);
    change('hashchange', follow);
    if (observer) observer[on ? 'observe' : 'unobserve'](wall);
  };

  search.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(choose, TYPING_MS);
  };
  // What an input method has not made into characters yet is not searched for.
  search.addEventListener('compositionstart', () => {
    composing = true;
  });
  search.addEventListener('compositionend', () => {
    composing = false;
    choose();
  });
  select.onchange = choose;
  reset.onclick = () => {
    clear();
    search.focus(); // the button is gone
  };

  const view = {
    render() {
      listen(true);
      if (everybody) {
        for (const { card } of near) if (card) card.render();
        soon(); // the page may have moved it
      } else if (order && campaign.everybody) {
        open(campaign.everybody);
      } else {
        ask();
        if (campaign.away) unreachable();
      }
    },
  };
  campaign.wantEverybody();
  return view;
};

(document.currentScript as any).run = makeWall;
