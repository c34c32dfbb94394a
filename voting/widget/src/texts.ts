// What the widget says, and in which language. Here is what a like needs; all else, and English,
// comes with like-more.js, and until then the service's own title stands in.

import type { Texts } from './types';

export const TEXTS: { zh: Texts; en?: Texts } = {
  zh: {
    like: '点赞',
    liked: '已点赞',
    counted: '点赞成功',
    repeated: '今日已点赞',
    left: '今日还可点赞 {} 次',
    offline: '网络不通，稍后自动重试',
    shut: '暂不可点赞', // until it is known why
  },
};

export const langOf = (element: Element): 'zh' | 'en' =>
  /^en/i.test(((element.closest('[lang]') || {}) as HTMLElement).lang) ? 'en' : 'zh';

export const say = (
  element: Element,
  word: string,
  value: number | string = '',
  tables?: Record<string, Texts>
): string => {
  const lang = langOf(element);
  const text =
    element.getAttribute('text-' + word) ||
    (tables && tables[lang]![word]) ||
    (TEXTS[lang] || TEXTS.zh)[word] ||
    '';
  return text.replace('{}', () => value as string);
};
