// One request, and its whole answer or none.

import type { Answer } from './types';

const ANSWER_MS = 1e4;

/** POSTs `content`, or GETs where there is none. Rejects where no whole answer came in time. */
export const ask = async (url: string, content?: object): Promise<Answer> => {
  const stop = window.AbortController && new AbortController();
  setTimeout(() => stop && stop.abort(), ANSWER_MS); // nothing, once the answer is there
  // Browsers would take an answer out of their own cache while that asks for the next one, and be one
  // refresh behind: so they ask whether theirs still holds (a 304), which no cache before us minds.
  const options: RequestInit = {
    cache: 'no-cache',
    signal: stop && stop.signal,
    credentials: 'omit',
  };
  if (content) {
    options.method = 'POST';
    options.body = JSON.stringify(content); // goes as text/plain, which spares the preflight
    options.keepalive = true;
  }
  const answer = await fetch(url, options);
  const body = await answer.json().catch((why) => {
    if (answer.ok) throw why;
    return {};
  });
  return { status: answer.status, body, wait: +answer.headers.get('Retry-After')! || 5 };
};
