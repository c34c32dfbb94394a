// What the files of the widget tell each other. They are built apart, so that these shapes are all
// that they share. like.js loads like-wall.js and like-more.js; like-more.js loads like-work.js.

export type Phase = 'not-open' | 'open' | 'paused' | 'closed';

export interface Picture {
  webp: string;
  jpeg: string;
  width?: number;
  height?: number;
}

export interface Person {
  id: string;
  name: string;
  organisation: string;
  channel: string;
  title: string;
  summary: string;
  photo: (Picture & { large?: Picture | null }) | null;
  withdrawn?: boolean;
}

/** What this device does, and did, about one candidate. */
export interface Like {
  candidate: string;
  /** The last outcome's word, as far as it is to be shown; '' = nothing to say. */
  state?: string;
  /** It liked this candidate today. */
  liked?: boolean;
  /** Of the last like that was counted in this page's life. A held one has it as well. */
  receipt?: string;
}

/** Something that shows a campaign, and is told whenever anything of it is new. */
export interface View {
  render(): void;
}

export interface Answer {
  status: number;
  body: any;
  /** Seconds; what Retry-After says, else 5. */
  wait: number;
}

/** What all elements of one campaign on a page share. */
export interface Campaign {
  /** Where the service is, without a slash at its end. */
  readonly base: string;
  readonly id: string;
  /** By id, as far as they are known; null = there never was anybody of that id. */
  readonly people: Record<string, Person | null | undefined>;
  /** All who have not withdrawn, in the list's order, once `wantEverybody` was heard. */
  everybody?: Person[];
  /** By id; null = hidden for now; undefined = not known yet. */
  counts?: Record<string, number> | null;
  readonly likes: Record<string, Like | undefined>;
  phase: Phase;
  /** The last opens_at, closes_at and paused_because; there before any phase but open is. */
  about?: { opens_at?: string; closes_at?: string; paused_because?: string | null };
  /** The last refresh failed. */
  away?: boolean;
  /** The list of all candidates comes with the next refresh, once. */
  wantEverybody(): void;
  /** Tells `view` of news from now on, beginning at once; the counts are refreshed as long as
   * there is a view. */
  join(view: View): void;
  leave(view: View): void;
  /** The body of GET {base}/v1/campaigns/{id}{what}; rejects where that is not 200. */
  read(what: string): Promise<any>;
  post(what: string, content: object): Promise<Answer>;
  show(): void;
  /** What a visitor waits for while a challenge is at work, in the element's words. */
  working?: ((element: Element) => string) | null;
  /** The challenge at work. */
  proving?: Promise<unknown> | null;
}

/** A language's texts by word; {} in one is where its number or time stands. */
export type Texts = Record<string, string>;

/** What like.js hands to what it loads. */
export interface Core {
  /** A new last child of `parent`; SVG for svg and path. */
  make(parent: Node, tag: string, attributes?: Record<string, unknown>): any;
  /** Its text, touched only if it is another one. */
  write(element: Element, text: string): void;
  /** A style sheet of this build, as a file; `shown` is hidden until it is there. */
  dress(root: ShadowRoot, name: string, shown: HTMLElement): void;
  /** The text for a word: the element's text-<word>, else by its language (its own lang, or the
   * closest one's: English or Chinese) out of `tables`, else out
   * of the core's own. */
  say(element: Element, word: string, value?: number | string, tables?: Record<string, Texts>): string;
  /** A candidate's card in `parent`, for a root with like.css in it; texts, language and the like
   * event are of `host`. */
  makeCard(parent: Node, host: HTMLElement, campaign: Campaign, id: string): View & { box: HTMLElement };
  /** What the script `name` of this build sets as `run` on its element, if it has this hash. */
  load(name: string, integrity: string): Promise<any>;
  /** A small text under this name in the one storage key; in memory where storage is denied. */
  recall(name: string): string | null | undefined;
  remember(name: string, text: string | null): void;
}

/** What like-more.js brings. */
export interface More {
  identify(identity: string, post: Campaign['post']): Promise<Answer | null>;
  /** Ends when the challenge is done, and the better token kept. */
  prove(
    campaign: Campaign,
    token: string,
    challenge: unknown,
    kept: () => string | null | undefined,
    keep: (token: string) => void
  ): Promise<unknown> | null | undefined;
  /** Why there are no likes now, or ''. Puts up what a foot may have besides: the way to a receipt, a
   * button that shares. */
  detail(
    host: Element,
    shut: string,
    campaign: Campaign,
    like: Partial<Like>,
    foot: Element,
    person: Person | null | undefined
  ): string;
  checkOrigin(campaign: any, refuse: () => void): Promise<void>;
}

/** like-wall.js sets this on its script element; like.js calls it for each <like-wall> there is,
 * with the wall's empty shadow root. The view joins the campaign and leaves it with the element. */
export type MakeWall = (wall: HTMLElement, root: ShadowRoot, campaign: Campaign, core: Core) => View;
