// The wall of the campaign's page: buttons for the cards that come near, and finding candidates while
// one types. Without it each card has a link to its own page, and the form and the channels ask the
// server.
(() => {
  const list = document.querySelector('.people');
  if (!list) return;
  const people = [...list.children];

  // 750 buttons at once would be a long task, so a card gets its own on the way to the viewport. The
  // link goes into it: where the widget does not come, the link is what is seen.
  const dress = (person) => {
    const link = person.querySelector('.like');
    if (!link || link.parentNode !== person) return;
    const button = document.createElement('like-button');
    button.setAttribute('campaign', list.dataset.campaign);
    button.setAttribute('candidate', person.id);
    button.setAttribute('name', person.querySelector('h3').textContent);
    button.setAttribute('theme', 'auto');
    person.replaceChild(button, link);
    button.append(link);
  };
  // Moving a link takes the keyboard's focus off it: it waits until the focus is elsewhere.
  const whenFree = (person) => {
    const link = person.querySelector('.like');
    if (link !== document.activeElement) dress(person);
    else link.addEventListener('blur', () => dress(person), { once: true });
  };
  if (self.IntersectionObserver) {
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        whenFree(target);
      }
    }, { rootMargin: '600px 0px' });
    for (const person of people) observer.observe(person);
  } else people.forEach(dress);

  // Pictures are WebP; where that cannot be shown the same picture is there as JPEG.
  const other = (image) => {
    if (image.src.endsWith('.webp')) image.src = image.src.slice(0, -5) + '.jpg';
  };
  list.addEventListener('error', (event) => other(event.target), true);
  for (const image of list.getElementsByTagName('img')) {
    if (image.complete && image.currentSrc && !image.naturalWidth) other(image);
  }

  const form = document.querySelector('.find');
  // Where the server found already, not all are here.
  if (!form || people.length !== +form.dataset.people) return;
  const links = [...document.querySelectorAll('.channels a')];
  const found = document.getElementById('found');
  const nobody = document.querySelector('.nobody');
  const said = found.textContent;
  let words; // made with the first search: reading 750 cards takes a moment
  let channel = '';
  let waiting = 0;

  const show = () => {
    waiting = 0;
    const parts = form.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    words = words || people.map((one) =>
      ['h3', '.role'].map((what) => one.querySelector(what).textContent).join(' ').toLowerCase());
    let count = 0;
    people.forEach((one, n) => {
      const fits = (!channel || one.dataset.channel === channel) &&
        parts.every((part) => words[n].includes(part));
      count += fits;
      if (one.hidden === fits) one.hidden = !fits;
    });
    nobody.hidden = count > 0;
    found.textContent = channel || parts.length ? '找到 ' + count + ' 位' : said;
    for (const link of links) {
      if (link.dataset.channel === channel) link.setAttribute('aria-current', 'true');
      else link.removeAttribute('aria-current');
    }
  };

  form.q.addEventListener('input', () => { waiting = waiting || setTimeout(show, 80); });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    show();
  });
  for (const link of links) {
    link.addEventListener('click', (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      channel = link.dataset.channel;
      show();
    });
  }
  nobody.querySelector('a').addEventListener('click', (event) => {
    event.preventDefault();
    channel = form.q.value = '';
    show();
  });
  if (form.q.value) show(); // what the server was asked for, where it found everybody
})();
