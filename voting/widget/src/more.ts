// What few pages need: English, sharing, portals' identities, challenges, why there are no likes now,
// and what to tell the programmer of a page that the campaign does not list. like.js loads it where one of these is wanted.

import type { Store } from './campaign';
import type { Answer, Campaign, Core, More, Person, Texts } from './types';

declare const WORK_HASH: string;

const EN: Texts = {
  like: 'Like',
  liked: 'Liked',
  counted: 'Your like counts',
  repeated: 'Liked today',
  left: 'Likes left today: {}',
  'quota-spent': 'No likes left today',
  closed: 'Voting is over',
  closes: 'Ended {}',
  'not-open': 'Not open yet',
  opens: 'Opens {}',
  paused: 'Voting is paused',
  offline: 'No network: your like is sent when it is back',
  dropped: 'No network: please like again',
  busy: 'Busy: please try again later',
  throttled: 'Too fast: again in {} s',
  refused: 'This like was not accepted',
  challenge: 'Check not finished: please tap again',
  working: 'Checking…',
  'working-about': 'Checking, about {} s',
  'working-left': 'Checking, {} s left',
  'bad-token': 'Device pass expired: please tap again',
  'unknown-candidate': 'Withdrawn',
  'wrong-origin': 'No likes from this page',
  'identity-required': 'Please sign in first',
  months: 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec',
  share: 'Share',
  copied: 'Copied: paste it anywhere',
  'share-text': '{} deserves a like: ',
};
const ZH: Texts = {
  'quota-spent': '今日点赞次数已用完',
  closed: '投票已结束',
  'not-open': '投票尚未开始',
  paused: '投票已暂停',
  dropped: '网络不通，请重新点赞',
  busy: '服务繁忙，请稍后再试',
  throttled: '点赞太快，请 {} 秒后再试',
  refused: '本次点赞未被接受',
  'unknown-candidate': '已退出',
  working: '正在验证，请稍候…',
  'working-about': '正在验证，约需 {} 秒',
  'working-left': '正在验证，还需 {} 秒',
  challenge: '验证未完成，请再点一次',
  'bad-token': '设备凭证已失效，请再点一次',
  closes: '{} 结束',
  opens: '{} 开始',
  'wrong-origin': '此页面未获准点赞',
  'identity-required': '请先登录，再点赞',
  share: '分享',
  copied: '已复制，可粘贴到微信',
  'share-text': '{}，值得点赞：',
};
const ANSWER_MS = 1e4;
const ARROW = 'M10 13V3M7 6l3-3 3 3M4 10v7h12v-7';

let core: Core;

/** The answer of POST /v1/devices for whom the portal says is there: an assertion, or an address
 * that gives one. null = nobody is logged in, or the service does not take the portal's word. */
const identify = async (identity: string, post: Campaign['post']): Promise<Answer | null> => {
  let assertion = identity;
  if (/^(\/|https:\/\/)/.test(identity)) {
    const late = new Promise<never>((_, fail) => setTimeout(fail, ANSWER_MS, {}));
    const answer = await Promise.race([fetch(identity, { credentials: 'include' }), late]);
    assertion = answer.ok ? (await answer.text()).trim() : '';
  }
  if (!assertion) return null;
  const answer = await post('devices', { identity: assertion });
  if (answer.status < 400 || answer.status === 429 || answer.status >= 500) return answer;
  const { detail, title } = answer.body;
  console.error(`like: the service does not accept this page's identity: ${detail || title}`);
  return null;
};

/** Where this page's origin is not one of the campaign's: says so to its programmer, once, and to
 * the visitor. */
const checkOrigin = async (store: Store, refuse: () => void): Promise<void> => {
  const here = location.origin;
  if (store.foreign !== undefined || new URL(store.base).origin === here) return;
  try {
    const { origins } = await store.read('');
    store.foreign = !!origins && !origins.includes(here);
    if (!store.foreign) return;
    console.error(
      `like: ${here} is not among the origins of campaign ${store.id} (${origins.join(', ')}), so ` +
        'that it takes no likes from this page. 此页面的来源不在该活动允许的来源之列。'
    );
    refuse();
  } catch (_) {
    // It was the network, after all.
  }
};

/** For web views without the clipboard's API, and pages without TLS. */
const copyByHand = (text: string): boolean => {
  const area = document.createElement('textarea');
  area.value = text;
  area.setAttribute('readonly', '');
  document.body.appendChild(area);
  area.select();
  area.setSelectionRange(0, text.length);
  try {
    return document.execCommand('copy');
  } finally {
    area.remove();
  }
};

/** A button that shares the card, never for a like: by the browser's own sheet where there is one,
 * else the text is copied, to be pasted into WeChat. */
const share = (
  row: Element,
  host: Element,
  person: () => Person | null | undefined
): void => {
  const button = core.make(row, 'button', { type: 'button', class: 'share', part: 'share' });
  const drawn = core.make(button, 'svg', { 'aria-hidden': true });
  core.make(drawn, 'path', { d: ARROW });
  const named = core.make(button, 'span', { class: 'said' });
  core.write(named, core.say(host, 'share'));
  const note = core.make(row, 'div', { class: 'note', role: 'status' });
  button.onclick = async () => {
    const whom = person();
    if (!whom) return;
    const { name, organisation } = whom;
    const url = new URL(host.getAttribute('share') || '', location.href).href;
    const who = [name, organisation].filter(Boolean).join(' · ');
    const text = core.say(host, 'share-text', who);
    const { navigator } = window as any;
    if (navigator.share) {
      // Whoever closes the sheet has decided so.
      await navigator.share({ title: name, text, url }).catch(() => {});
      return;
    }
    let copied = true;
    try {
      await navigator.clipboard.writeText(text + url);
    } catch (_) {
      copied = copyByHand(text + url);
    }
    if (!copied) return;
    core.write(note, core.say(host, 'copied'));
    setTimeout(() => core.write(note, ''), 4e3);
  };
};

/** A moment as the campaign's zone has it, for the offset in its text is that zone's. */
const momentOf = (time: string, months?: string): string => {
  const [, month, day, clock] = /-(\d\d)-(\d\d)T(\d\d:\d\d)/.exec(time) || ['', 1, 1, time];
  return months
    ? `${+day!} ${months.split(' ')[+month! - 1]}, ${clock}`
    : `${+month!}月${+day!}日 ${clock}`;
};

/** When it opens, when it closed, or why it is paused. */
const detail: More['detail'] = (host, shut, about) => {
  if (shut === 'paused') return about.paused_because || '';
  const word = { closed: 'closes', 'not-open': 'opens' }[shut];
  const time = word && about[word + '_at'];
  return time ? core.say(host, word, momentOf(time, core.say(host, 'months'))) : '';
};

const run = (texts: Record<string, Texts>, itsCore: Core): More => {
  core = itsCore;
  texts.en = EN;
  Object.assign(texts.zh!, ZH);
  let solver: Promise<any> | null;
  return {
    identify,
    checkOrigin,
    share,
    detail,
    work(campaign, token, challenge) {
      if (!solver) {
        solver = core.load('like-work.js', WORK_HASH);
        solver.catch(() => (solver = null));
      }
      return solver.then((solve) => solve(campaign, token, challenge, core.say));
    },
  };
};
(document.currentScript as any).run = run;
