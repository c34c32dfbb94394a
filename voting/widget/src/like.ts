// <like-card>, <like-button> and, of a file of its own, <like-wall>. Frozen once released: see
// voting/widget/CHANGELOG.md.

import { makeStore, type Store } from './campaign';
import { core, makeCard } from './card';
import { more } from './coming';
import { dress, load, source } from './dom';
import { langOf } from './texts';
import type { MakeWall, View } from './types';

declare const WALL_HASH: string;

const stores = new Map<string, Store>();

const storeOf = (element: Element, id: string): Store => {
  const identity = element.getAttribute('identity');
  // Where the script came from, up to /embed/: so it works under a path of the portal's own, too.
  const home = element.getAttribute('base') || source.replace(/\/embed\/.*/, '');
  const key = [home, id, identity].join(' ');
  if (!stores.has(key)) {
    const base = new URL(home, location.href).href.replace(/\/+$/, '');
    stores.set(key, makeStore(base, id, identity));
  }
  return stores.get(key)!;
};

interface Sighted extends Element {
  seen_(near: boolean): void;
}

// Only what is near the viewport costs anything.
const observer =
  window.IntersectionObserver &&
  new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) (target as Sighted).seen_(isIntersecting);
    },
    { rootMargin: '400px' }
  );

type Fill = (
  host: HTMLElement,
  root: ShadowRoot,
  store: Store,
  candidate: string,
  script: any
) => View;

const card =
  (bare: boolean): Fill =>
  (host, root, store, candidate) => {
    const { box, render } = makeCard(root, host, store, candidate, bare);
    dress(root, 'like.css', box);
    return {
      render() {
        render();
        if (store.people[candidate] === null) host.hidden = true; // nobody of that id
      },
    };
  };

/** Defines an element that costs next to nothing until it is near the viewport. Then `fill` makes
 * its inside, with the script that `first` loaded; and as long as it stays there it hears of news. */
const define = (name: string, fill: Fill, first?: () => Promise<any>): unknown =>
  customElements.get(name) || // of an older build
  customElements.define(
    name,
    class extends HTMLElement {
      store_?: Store | null;
      view_?: View | null;
      near_?: boolean;

      static get observedAttributes() {
        return ['campaign', 'candidate', 'base', 'lang', 'identity'];
      }

      connectedCallback(): void {
        const id = this.getAttribute('campaign');
        if (!id) return;
        const candidate = this.getAttribute('candidate');
        this.store_ = storeOf(this, id);
        if (candidate && !(name === 'like-button' && this.getAttribute('name'))) this.store_.want_(candidate);
        if (observer) observer.observe(this);
        else this.seen_(true);
      }

      disconnectedCallback(): void {
        if (observer) observer.unobserve(this);
        this.seen_(false);
      }

      attributeChangedCallback(_: string, old: string | null, now: string | null): void {
        if (old === now || !this.isConnected) return;
        this.disconnectedCallback();
        this.view_ = this.store_ = null;
        this.hidden = false;
        if (this.shadowRoot) this.shadowRoot.textContent = '';
        this.connectedCallback();
      }

      seen_(near: boolean): void {
        const store = this.store_;
        const view = this.view_;
        this.near_ = near;
        if (!store) return;
        if (view) near ? store.join(view) : store.leave(view);
        else if (near) {
          const begin = (script?: any) => {
            if (this.view_ || this.store_ !== store) return;
            const root = this.shadowRoot || this.attachShadow({ mode: 'open' });
            this.view_ = fill(this, root, store, this.getAttribute('candidate') || '', script);
            if (this.near_) store.join(this.view_);
          };
          const english = langOf(this) === 'en' && more().catch(() => {});
          // What stands in the element stays to be seen until then, and where nothing comes.
          Promise.all([first && first(), english]).then(([script]) => begin(script), () => {});
        }
      }
    }
  );

const wake = (event: Event): void => {
  if (document.hidden) return;
  stores.forEach((store) => store.wake_((event as PageTransitionEvent).persisted));
};

if (window.customElements) {
  define('like-card', card(false));
  define('like-button', card(true));
  define(
    'like-wall',
    (host, root, store, _, run: MakeWall) => run(host, root, store, core),
    () => load('like-wall.js', WALL_HASH)
  );
  document.addEventListener('visibilitychange', wake);
  addEventListener('online', wake);
  addEventListener('pageshow', wake); // back out of the browser's memory
}
