// What a page does not need at first: the link to a receipt, English, sharing, portals' identities,
// challenges, why there are no likes now, and what to tell the programmer of a page that the campaign
// does not list. like.js loads it where one of these is wanted, and it loads like-work.js.

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
  closed: 'Likes are closed',
  closes: 'Ended {}',
  'not-open': 'Likes are not open yet',
  opens: 'Opens {}',
  paused: 'Likes are paused',
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
  receipt: 'Receipt',
  share: 'Share',
  copied: 'Copied: paste it anywhere',
  'share-text': '{} deserves a like: ',
};
const ZH: Texts = {
  'quota-spent': '今日点赞次数已用完',
  closed: '点赞已结束',
  'not-open': '点赞尚未开始',
  paused: '点赞暂停中',
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
  'wrong-origin': '此页面未获准嵌入点赞',
  'identity-required': '请先登录，再点赞',
  receipt: '回执',
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
    // A way to a page for logging in is nobody, and so is such a page instead of an assertion.
    const asked = fetch(identity, { credentials: 'include', redirect: 'manual' });
    const answer = await Promise.race([asked, late]);
    assertion = answer.ok ? (await answer.text()).trim() : '';
  }
  if (!/^[\w.-]+$/.test(assertion)) return null;
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
const share = (row: Element, host: Element, { name, organisation }: Person): void => {
  const button = core.make(row, 'button', { type: 'button', class: 'share', part: 'share' });
  const drawn = core.make(button, 'svg', { 'aria-hidden': true });
  core.make(drawn, 'path', { d: ARROW });
  const named = core.make(button, 'span', { class: 'said' });
  core.write(named, core.say(host, 'share'));
  const note = core.make(row, 'div', { class: 'note', role: 'status' });
  button.onclick = async (event: Event) => {
    event.preventDefault();
    let url = location.href;
    try {
      url = new URL(host.getAttribute('share') || '', url).href;
    } catch (_) {
      // No address: then this page's.
    }
    const who = [name, organisation].filter(Boolean).join(' · ');
    const text = core.say(host, 'share-text', who);
    const { navigator } = window as any;
    if (navigator.share) {
      try {
        await navigator.share({ title: name, text, url });
        return;
      } catch (why) {
        // Whoever closes the sheet has decided so; all else is a browser that cannot.
        if ((why as Error).name === 'AbortError') return;
      }
    }
    let copied = true;
    try {
      await navigator.clipboard.writeText(text + url);
    } catch (_) {
      copied = copyByHand(text + url);
      button.focus();
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

/** The way to what the service knows of the like that was counted just now, which only the receipt
 * can prove later; it is kept nowhere. */
const link = (foot: Element, host: Element, { base }: Campaign, receipt: string): void => {
  let to = foot.querySelector('a');
  if (!to) {
    // In a tab of its own, or a visitor who comes back has lost it.
    to = core.make(foot, 'a', { class: 'receipt', part: 'receipt', target: '_blank', rel: 'noopener' });
    core.write(to!, core.say(host, 'receipt'));
    foot.className = 'foot kept'; // room for it
  }
  to!.href = `${base}/receipt?receipt=${encodeURIComponent(receipt)}`;
};

const detail: More['detail'] = (host, shut, campaign, { receipt }, foot, person) => {
  const about = campaign.about as Record<string, string | null | undefined>;
  if (receipt) link(foot, host, campaign, receipt);
  // Now, not with the tap, after which a browser shares for some seconds only.
  if (person && host.hasAttribute('share') && !foot.querySelector('.share')) {
    share(foot.querySelector('.row')!, host, person);
  }
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
  const work = (campaign: Campaign, token: string, challenge: unknown): Promise<string | null> => {
    if (!solver) {
      solver = core.load('like-work.js', WORK_HASH);
      solver.catch(() => (solver = null));
    }
    return solver.then((solve) => solve(campaign, token, challenge, core.say));
  };
  return {
    identify,
    checkOrigin,
    detail,
    // One for all cards that wait for it. What solves it is loaded with the first one: most visitors
    // never meet any.
    prove(campaign, token, challenge, kept, keep) {
      if (!campaign.proving && kept() === token) {
        const done = () => (campaign.proving = campaign.working = null);
        campaign.proving = work(campaign, token, challenge)
          // Another tab may have done it first.
          .then((better) => better && kept() === token && keep(better));
        campaign.proving.then(done, done);
      }
      return campaign.proving;
    },
  };
};
(document.currentScript as any).run = run;
