// like-more.js on its way. A module of its own: what it is handed must be whole by then.

import { core } from './card';
import { load } from './dom';
import { TEXTS } from './texts';
import type { More } from './types';

declare const MORE_HASH: string;

let coming: Promise<More> | null;

/** What few pages need, loaded with the first need; a failure is forgotten. */
export const more = (): Promise<More> => {
  if (!coming) {
    coming = load('like-more.js', MORE_HASH).then((run) => run(TEXTS, core));
    coming.catch(() => (coming = null));
  }
  return coming;
};
