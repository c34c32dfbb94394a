// Elements, and the other files of this build.

import type { Core } from './types';

declare const BUILD: string;

/** Where this script came from: so do its other files. It must be read while the script runs. */
const script = document.currentScript as HTMLScriptElement | null;
export const source = (script && script.src) || location.href;

const file = (name: string): string => new URL(`../${BUILD}/${name}`, source).href;

export const set = (element: Element, attributes: Record<string, unknown>): void => {
  for (const name of Object.keys(attributes)) element.setAttribute(name, attributes[name] as string);
};

export const make: Core['make'] = (parent, tag, attributes = {}) => {
  const space = /svg|path/.test(tag) ? '2000/svg' : '1999/xhtml';
  const made = document.createElementNS('http://www.w3.org/' + space, tag);
  set(made, attributes);
  return parent.appendChild(made);
};

export const write: Core['write'] = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

// A file, not an inline style: it passes a strict policy, in old web views too.
export const dress: Core['dress'] = (root, name, shown) => {
  const link = make(root, 'link', { rel: 'stylesheet' });
  shown.hidden = true;
  link.onload = link.onerror = () => (shown.hidden = false);
  link.href = file(name);
};

/** What a script of this build sets as `run` on its element. Only a file of this hash runs. */
export const load: Core['load'] = (name, integrity) =>
  new Promise((done, fail) => {
    const script = make(document.head, 'script', { integrity, crossorigin: '', src: file(name) });
    script.onload = () => done(script.run);
    script.onerror = fail;
  });
