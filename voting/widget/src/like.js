// Dianzan like card v1.0, Apache-2.0. Frozen once released: see voting/widget/CHANGELOG.md.
(() => {
  if (!self.customElements || customElements.get('like-card')) return;

  const source = (document.currentScript || {}).src || location.href;
  const REFRESH_MS = 5e3;
  const SLOW_MS = 6e4;
  const ANSWER_MS = 1e4;
  const CLICK_KEPT_MS = 6e5; // an unsent click older than this is dropped
  const STORAGE_KEY = 'dianzan';
  const SAY = {
    counted: '点赞成功',
    repeated: '今日已点赞',
    'quota-spent': '今日点赞次数已用完',
    closed: '投票已结束',
    'not-open': '投票尚未开始',
    paused: '投票已暂停',
    offline: '网络不通，稍后自动重试',
    dropped: '网络不通，请重新点赞',
    busy: '服务繁忙，请稍后再试',
    refused: '本次点赞未被接受',
    challenge: '验证未完成，请再点一次',
    'bad-token': '设备凭证已失效，请再点一次',
    'unknown-candidate': '已退出',
  };
  const file = (name) => new URL('../v1.0/' + name, source).href;

  // Tokens by campaign in one storage key; in memory alone where storage is denied.
  const memory = {};
  const tokens = () => {
    try {
      return Object.assign({}, memory, JSON.parse(localStorage.getItem(STORAGE_KEY)));
    } catch (_) {
      return memory;
    }
  };
  const keep = (name, token) => {
    const all = tokens();
    all[name] = memory[name] = token;
    try {
      localStorage.setItem(STORAGE_KEY, JSON.stringify(all));
    } catch (_) {
      // The token lives as long as the page.
    }
  };

  // {status, body, wait}; rejects where no whole answer came in time.
  const ask = async (url, content) => {
    const stop = self.AbortController && new AbortController();
    const timer = setTimeout(() => stop && stop.abort(), ANSWER_MS);
    try {
      const options = { credentials: 'omit', signal: stop && stop.signal };
      if (content) {
        options.method = 'POST';
        options.headers = { 'Content-Type': 'text/plain' }; // spares the preflight
        options.body = JSON.stringify(content);
        options.keepalive = true;
      }
      const answer = await fetch(url, options);
      const body = await answer.json().catch((why) => {
        if (answer.ok) throw why;
      });
      return {
        status: answer.status,
        body: body || {},
        wait: +answer.headers.get('Retry-After') || 5,
      };
    } finally {
      clearTimeout(timer);
    }
  };

  // What solves challenges, loaded with the first one: most visitors never meet any.
  let work;
  const loadWork = () =>
    work ||
    (work = new Promise((done, fail) => {
      const script = make(document.head, 'script', {
        integrity: '{{like-work.js}}',
        crossorigin: '',
        src: file('like-work.js'),
      });
      script.onload = () => done(script.work);
      script.onerror = () => {
        work = null; // the next challenge asks again
        fail({});
      };
    }));

  // What all cards of one campaign on this page share: people, counts, the device, its likes.
  class Campaign {
    constructor(base, id) {
      this.base = base;
      this.id = id;
      this.key = base + ' ' + id;
      this.cards = new Set();
      this.likes = Object.create(null);
      this.counts = {};
      this.asked = 0;
      this.pause = 0;
    }

    show() {
      this.cards.forEach((card) => card.render());
    }

    like(candidate) {
      const fresh = { candidate, bump: 0, until: 0, tries: 0 };
      return this.likes[candidate] || (this.likes[candidate] = fresh);
    }

    // The next refresh, if anybody looks.
    plan() {
      clearTimeout(this.timer);
      if (this.refreshing || document.hidden || !this.cards.size) return;
      const due = this.asked + this.pause - Date.now();
      this.timer = setTimeout(() => this.refresh(), Math.max(0, due));
    }

    async refresh() {
      this.refreshing = true;
      this.asked = Date.now();
      const jobs = [this.readPeople(), this.readCounts(), this.readLiked()];
      const fine = jobs.map((job) => job.then(() => this.show(), () => 'away'));
      const away = (await Promise.all(fine)).includes('away');
      this.pause = away
        ? Math.min(SLOW_MS, this.pause * 2 || REFRESH_MS)
        : this.counts ? REFRESH_MS : SLOW_MS;
      this.refreshing = false;
      this.plan();
    }

    async read(what) {
      const { status, body } = await ask(`${this.base}/v1/campaigns/${this.id}/${what}`);
      if (status !== 200) throw status;
      return body;
    }

    post(what, content) {
      return ask(`${this.base}/v1/${what}`, Object.assign({ campaign: this.id }, content));
    }

    async readPeople() {
      if (this.people) return;
      const people = Object.create(null);
      const { candidates, withdrawn } = await this.read('candidates');
      for (const person of candidates.concat(withdrawn || [])) people[person.id] = person;
      this.people = people;
      this.shown = Date.now();
    }

    async readCounts() {
      const { counts, view } = await this.read('counts');
      this.counts = counts; // null where they are hidden
      // The last but one: of a key in use, and older than one refresh, so that dwell_ms may be.
      this.view = this.newer || view;
      this.newer = view;
    }

    async readLiked() {
      const token = !this.knowsLiked && tokens()[this.key];
      if (token) {
        const { status, body } = await this.post('devices/state', { token });
        if (status === 401) this.forget(token);
        else if (status !== 200) throw status;
        else for (const candidate of body.liked) this.like(candidate).liked = true;
      }
      this.knowsLiked = true;
    }

    forget(token) {
      if (tokens()[this.key] === token) keep(this.key, null);
      this.dropView(); // it may be of the same lost key
    }

    dropView() {
      this.view = this.newer = undefined;
    }

    // The device's token, made on first need; one request however many cards want it.
    token() {
      const done = () => (this.minting = null);
      if (!this.minting) {
        this.minting = Promise.resolve(tokens()[this.key] || this.mint());
        this.minting.then(done, done);
      }
      return this.minting;
    }

    async mint() {
      const answer = await this.post('devices', {});
      if (answer.status !== 201) throw answer;
      const { token, challenge } = answer.body;
      keep(this.key, token);
      if (challenge) await this.prove(token, challenge);
      return tokens()[this.key];
    }

    // One challenge for all cards that wait for it.
    prove(token, challenge) {
      if (!this.proving && tokens()[this.key] === token) {
        const done = () => (this.proving = this.working = null);
        this.proving = loadWork()
          .then((solve) => solve(this, token, challenge))
          // Another tab may have done it first.
          .then((better) => better && tokens()[this.key] === token && keep(this.key, better));
        this.proving.then(done, done);
      }
      return this.proving;
    }

    // Whether the count was raised ahead of the answer.
    tap(candidate) {
      const like = this.like(candidate);
      if (this.shut || like.sending || like.until > Date.now()) return false;
      if (!like.click || Date.now() - like.since > CLICK_KEPT_MS) {
        const bytes = crypto.getRandomValues(new Uint8Array(16));
        like.click = Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join('');
        like.since = Date.now();
        like.dwell_ms = like.since - this.shown;
      }
      // A second like of the day may be allowed: the server knows, so nothing is shown ahead.
      like.bump = like.liked ? 0 : 1;
      like.state = '';
      like.tries = 0;
      this.send(like);
      return like.bump > 0;
    }

    async send(like) {
      clearTimeout(like.timer);
      like.sending = true;
      this.show();
      let answer;
      try {
        for (let tries = 0; tries < 3; tries++) {
          const token = await this.token();
          const { view } = this;
          const { candidate, click, dwell_ms } = like;
          answer = await this.post('likes', { token, candidate, click, view, dwell_ms });
          const { challenge } = answer.body;
          if (challenge) await this.prove(token, challenge);
          else if (answer.status === 401 && !tries) this.forget(token);
          else break;
        }
      } catch (why) {
        answer = why.status ? why : null;
      }
      like.sending = false;
      like.bump = 0;
      if (answer) this.settle(like, answer);
      else this.wait(like);
      this.show();
    }

    settle(like, { body, wait }) {
      const word = body.outcome;
      like.state = SAY[word] ? word : 'busy';
      if (word === 'counted' || word === 'repeated') {
        like.liked = true;
        like.fresh = word === 'counted';
        like.floor = body.likes;
        like.floorUntil = Date.now() + 3e4; // cached counts may lack this like so long
      } else if (word === 'throttled') {
        like.state = word;
        like.until = Date.now() + wait * 1e3;
        this.countDown(like);
      } else if (/^(closed|not-open|paused)$/.test(word)) {
        this.shut = word;
        if (word !== 'closed') like.timer = setTimeout(() => this.clear(like), SLOW_MS);
      } else {
        like.timer = setTimeout(() => this.clear(like), 6e3);
      }
      if (word === 'refused') this.dropView(); // if it was for that, the next tap is not
      // Throttled or busy: it may be counted already, so that the next tap is the same click.
      if (SAY[word]) like.click = null;
    }

    clear(like) {
      like.state = '';
      if (this.shut !== 'closed') this.shut = null;
      this.show();
    }

    countDown(like) {
      if (like.until <= Date.now()) return this.clear(like);
      like.timer = setTimeout(() => this.countDown(like), 500);
      this.show();
    }

    // No answer: the click is kept, and sent again when there may be a network.
    wait(like) {
      like.state = 'offline';
      const pause = REFRESH_MS * Math.pow(2, like.tries++);
      like.timer = setTimeout(() => this.resend(like), Math.min(SLOW_MS, pause));
    }

    resend(like) {
      if (like.state !== 'offline' || like.sending) return;
      clearTimeout(like.timer);
      if (Date.now() - like.since > CLICK_KEPT_MS) {
        like.click = null;
        like.state = 'dropped';
        this.show();
      } else if (navigator.onLine === false) this.wait(like);
      else this.send(like);
    }

    wake() {
      this.pause = Math.min(this.pause, REFRESH_MS);
      this.plan();
      for (const candidate of Object.keys(this.likes)) this.resend(this.likes[candidate]);
    }
  }

  const campaigns = {};
  const wake = () => {
    for (const key of Object.keys(campaigns)) if (!document.hidden) campaigns[key].wake();
  };
  document.addEventListener('visibilitychange', wake);
  addEventListener('online', wake);

  const THUMB =
    'M7 10v10M3.5 10H7l4-7c1.7 0 2.7 1.2 2.3 3l-.7 3.6H19c1.2 0 2 1 1.7 2.2l-1.7 7c-.2 1-1 1.8-2 1.8H3.5z';
  const make = (parent, tag, attributes = {}) => {
    const space = tag === 'svg' || tag === 'path' ? '2000/svg' : '1999/xhtml';
    const made = document.createElementNS('http://www.w3.org/' + space, tag);
    for (const name of Object.keys(attributes)) made.setAttribute(name, attributes[name]);
    return parent.appendChild(made);
  };
  const write = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  class LikeCard extends HTMLElement {
    static get observedAttributes() {
      return ['campaign', 'candidate', 'base'];
    }

    constructor() {
      super();
      const root = this.attachShadow({ mode: 'open' });
      const card = make(root, 'article', { class: 'card', part: 'card' });
      // A file, not an inline style: it passes a strict policy, in old web views too.
      const link = make(root, 'link', { rel: 'stylesheet' });
      card.hidden = true;
      link.onload = link.onerror = () => (card.hidden = false);
      link.href = file('like.css');
      const photo = make(card, 'div', { class: 'photo' });
      const body = make(card, 'div', { class: 'body' });
      const name = make(body, 'h3');
      const role = make(body, 'p', { class: 'role' });
      const summary = make(body, 'p', { class: 'summary' });
      const foot = make(body, 'div', { class: 'foot' });
      const note = make(foot, 'div', { class: 'note', 'aria-hidden': true });
      const button = make(foot, 'button', { type: 'button', part: 'button' });
      make(make(button, 'svg', { viewBox: '0 0 24 24', 'aria-hidden': true }), 'path', { d: THUMB });
      const label = make(button, 'span');
      const whom = make(button, 'span', { class: 'said' });
      const count = make(button, 'span', { class: 'count' });
      make(button, 'span', { class: 'plus', 'aria-hidden': true }).textContent = '+1';
      const said = make(foot, 'div', { class: 'said', role: 'status' });
      button.onclick = () => {
        const { person } = this;
        if (person && !person.withdrawn && this.campaign.tap(person.id)) button.classList.add('pop');
      };
      button.onanimationend = (event) => {
        if (event.animationName === 'rise') button.classList.remove('pop');
      };
      this.seen = { card, photo, name, role, summary, note, button, label, whom, count, said };
    }

    connectedCallback() {
      const id = this.getAttribute('campaign');
      if (!id) return;
      const home = this.getAttribute('base') || new URL(source).origin;
      const base = new URL(home, location.href).href.replace(/\/+$/, '');
      const key = base + ' ' + id;
      this.campaign = campaigns[key] || (campaigns[key] = new Campaign(base, id));
      this.campaign.cards.add(this);
      this.render();
      this.campaign.plan();
    }

    disconnectedCallback() {
      if (this.campaign) this.campaign.cards.delete(this);
      this.campaign = null;
    }

    attributeChangedCallback() {
      if (!this.isConnected) return;
      this.disconnectedCallback();
      this.connectedCallback();
    }

    render() {
      const { people, likes, counts } = this.campaign;
      const id = this.getAttribute('candidate');
      const person = people && people[id];
      const shut = person && person.withdrawn ? 'unknown-candidate' : this.campaign.shut;
      if (person !== this.person) this.introduce(person);
      this.hidden = !!people && !person;
      const { card, note, button, label, count, said } = this.seen;
      const like = likes[id] || { bump: 0 };
      const pressed = !!like.liked || like.bump > 0;
      const stale = like.liked && !like.fresh;
      write(label, shut ? SAY[shut] : stale ? SAY.repeated : pressed ? '已点赞' : '点赞');
      button.setAttribute('aria-pressed', pressed);
      button.setAttribute('aria-busy', !!like.sending);
      button.setAttribute('aria-disabled', !person || !!shut);
      let shown = counts && counts[id];
      if (like.floorUntil > Date.now() && !(shown > like.floor)) shown = like.floor;
      write(count, shown == null ? '' : (shown + like.bump).toLocaleString('zh-CN'));
      const seconds = Math.ceil((like.until - Date.now()) / 1e3);
      const working = like.sending && this.campaign.working;
      const state = working ? 'working' : like.state;
      const late = seconds > 0 ? `点赞太快，请 ${seconds} 秒后再试` : SAY[state] || '';
      const text = working || late;
      write(note, text);
      card.setAttribute('data-state', shut || state || '');
      // Said once per outcome; a count-down is not read out.
      if (state !== this.saidState) write(said, text);
      this.saidState = state;
    }

    introduce(person) {
      this.person = person;
      const { photo, name, role, summary, whom } = this.seen;
      const shown = person || { name: '', summary: '' };
      write(name, shown.name);
      write(whom, shown.name);
      write(role, [shown.organisation, shown.title].filter(Boolean).join(' · '));
      write(summary, shown.summary);
      photo.textContent = '';
      if (!person) return;
      const initial = () => {
        photo.textContent = '';
        make(photo, 'b', { 'aria-hidden': true }).textContent = person.name.slice(0, 1);
      };
      if (!person.photo) return initial();
      const at = (path) => (path[0] === '/' ? this.campaign.base : '') + path;
      const picture = make(photo, 'picture');
      make(picture, 'source', { type: 'image/webp', srcset: at(person.photo.webp) });
      const image = make(picture, 'img', { loading: 'lazy', alt: person.name });
      image.onerror = initial;
      image.src = at(person.photo.jpeg);
    }
  }
  customElements.define('like-card', LikeCard);
})();
