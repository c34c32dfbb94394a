// How a candidate and the like button look.

import type { OwnLike, Store } from './campaign';
import { more } from './coming';
import { dress, load, make, set, write } from './dom';
import { recall, remember } from './kept';
import { langOf, say } from './texts';
import type { Core, More, Person, View } from './types';

const THUMB = 'M6 8v9H2V8h4l3-6q3 0 2 3l-1 3h6q2 0 2 2l-2 6q-1 1-2 1H6';

let they: More | undefined;

/** An element that pages may style, as class and part. */
const part = (parent: Node, name: string, tag = 'div', more?: object) =>
  make(parent, tag, Object.assign({ class: name, part: name }, more));

/** The button with what it says: the whole of a <like-button>, the foot of a card. `host` is the
 * element whose texts and language are meant, and whence the event comes. */
const makeFoot = (
  box: HTMLElement,
  body: HTMLElement,
  host: HTMLElement,
  store: Store,
  id: string
) => {
  const foot = part(body, 'foot');
  const note = part(foot, 'note', 'div', { 'aria-hidden': true });
  const row = part(foot, 'row');
  const button = part(row, 'button', 'button', { type: 'button' });
  const thumb = make(button, 'svg', { 'aria-hidden': true });
  make(thumb, 'path', { d: THUMB });
  const label = part(button, 'label', 'span');
  const whom = part(button, 'said', 'span');
  const count = part(button, 'count', 'span');
  write(part(button, 'plus', 'span', { 'aria-hidden': true }), '+1');
  const hint = part(foot, 'hint');
  const said = part(foot, 'said', 'div', { role: 'status' });
  let saidState: string;
  let open: boolean;

  button.onclick = (event: Event) => {
    event.preventDefault(); // a link that it may be in
    if (open) store.tap_(id, host);
  };

  /** `known`: as far as it takes to like somebody. */
  return (person: Person | null | undefined, name: string, known: boolean) => {
    const { counts } = store;
    const left = store.left_;
    const like: Partial<OwnLike> = store.likes[id] || {};
    const gone = person ? person.withdrawn : counts && !(id in counts);
    const shut = gone ? 'unknown-candidate' : store.shut_();
    const pressed = like.liked || like.bump_;
    const stale = like.liked && !like.fresh_;
    const word = stale ? 'repeated' : pressed ? 'liked' : 'like';
    open = known && !gone;
    write(label, say(host, shut || word) || say(host, 'shut'));
    write(whom, name);
    set(button, {
      class: pressed && !stale ? 'button pop' : 'button',
      'aria-pressed': !!pressed,
      'aria-busy': !!like.sending_,
      'aria-disabled': !open || !!shut,
    });
    let number = counts && counts[id];
    if (like.floorUntil_! > Date.now() && number! < like.floor_!) number = like.floor_;
    write(count, number == null ? '' : number.toLocaleString('en'));

    const detail = they && they.detail ? they.detail(host, shut, store, like, foot, person) : '';
    const rest = left == null ? '' : say(host, left ? 'left' : 'quota-spent', left);
    write(hint, detail || (shut ? '' : rest));

    const busy = like.sending_ && store.working;
    const state = busy ? 'working' : like.state || '';
    const seconds = Math.ceil((like.until_! - Date.now()) / 1e3);
    const text = busy ? busy(host) : (state && (say(host, state, seconds) || (they && like.title_))) || '';
    if (!they && (shut || left === 0 || like.receipt || host.hasAttribute('share') || (state && !text))) {
      const show = (come?: More) => {
        they = come || ({} as More); // one try a page
        store.show();
      };
      more().then(show, () => show());
    }
    const also = state === 'counted' ? rest : state === shut ? detail : '';
    const whole = text + (also && ' · ' + also);
    write(note, whole);
    box.setAttribute('data-state', shut || state);
    // Said once per outcome; a count-down is not read out.
    if (state !== saidState && (text || !state)) write(said, whole), (saidState = state);
    box.lang = langOf(host);
  };
};

/** A card in `parent`, or only its button. */
export const makeCard = (
  parent: Node,
  host: HTMLElement,
  store: Store,
  id: string,
  bare?: boolean
): View & { box: HTMLElement } => {
  const box = bare ? make(parent, 'div') : part(parent, 'card', 'article');
  let introduce: (person: Person) => void = () => {};
  let known: Person | null | undefined;
  let body = box;

  if (!bare) {
    const photo = part(box, 'photo');
    body = part(box, 'body');
    const name = part(body, 'name', 'h3');
    const role = part(body, 'role', 'p');
    const summary = part(body, 'summary', 'p');
    introduce = (person) => {
      write(name, person.name);
      write(role, [person.organisation, person.title].filter(Boolean).join(' · '));
      write(summary, person.summary);
      photo.textContent = '';
      set(photo, { 'data-initial': [...person.name][0] }); // shown where no picture is
      if (!person.photo) return;
      const { webp, jpeg, width, height } = person.photo;
      const at = (path: string) => (path[0] === '/' ? store.base : '') + path;
      const picture = make(photo, 'picture');
      make(picture, 'source', { type: 'image/webp', srcset: at(webp) });
      const image = make(picture, 'img', { loading: 'lazy', alt: person.name, width, height });
      image.onerror = () => picture.remove();
      image.src = at(jpeg);
    };
  }
  const render = makeFoot(box, body, host, store, id);
  return {
    box,
    render() {
      const person = store.people[id];
      if (person && person !== known) introduce((known = person));
      const name = host.getAttribute('name') || (person ? person.name : '');
      render(person, name, bare ? store.counts !== undefined : !!person);
    },
  };
};

export const core: Core = {
  make,
  write,
  dress,
  say,
  recall,
  remember,
  load,
  makeCard: makeCard as Core['makeCard'],
};
