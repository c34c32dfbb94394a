// One request, and its whole answer or none.

import type { Answer } from './types';

const ANSWER_MS = 1e4;

/** POSTs `content`, or GETs where there is none. Rejects where no whole answer came in time. */
export const ask = async (url: string, content?: object): Promise<Answer> => {
  const stop = self.AbortController && new AbortController();
  const timer = setTimeout(() => stop && stop.abort(), ANSWER_MS);
  try {
    const options: RequestInit = { credentials: 'omit', signal: stop && stop.signal };
    if (content) {
      options.method = 'POST';
      options.headers = { 'Content-Type': 'text/plain' }; // spares the preflight
      options.body = JSON.stringify(content);
      options.keepalive = true;
    }
    const answer = await fetch(url, options);
    const body = await answer.json().catch((why) => {
      if (answer.ok) throw why;
      return {};
    });
    return { status: answer.status, body, wait: +answer.headers.get('Retry-After')! || 5 };
  } finally {
    clearTimeout(timer);
  }
};
