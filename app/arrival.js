// What a page brings when it opens: the ticket of its browser tab, by which a page that was loaded again finds what it
// had. A duplicated tab has a copy of the ticket, which the page that is open already holds, and gets a new one.
async () => {
  const NAME = 'memlong-visit', PUBLIC = 16, WAIT = 250; // ms for another page's word, or for it to close
  const fresh = () => Array.from(crypto.getRandomValues(new Uint8Array(32)), (b) => b.toString(16).padStart(2, '0')).join('');
  window.addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); }); // its connection is gone
  let ticket;
  try {
    ticket = sessionStorage.getItem(NAME) || '';
  } catch {
    return ['']; // storage is blocked: nothing survives a reload
  }
  // Only its first part is ever spoken aloud; the rest, the server's part, stays a secret.
  const name = () => NAME + ' ' + ticket.slice(0, PUBLIC);

  // A lock lasts as long as its page and is refused however busy that page is.
  const tryLock = () => new Promise((tell) => {
    navigator.locks.request(name(), { ifAvailable: true }, (held) => {
      tell(held !== null);
      return held && new Promise(() => {});
    });
  });
  const pause = () => new Promise((go) => setTimeout(go, WAIT));
  const lock = async () => (await tryLock()) || (await pause(), tryLock()); // a page that is just closing lets go
  // Without https there are no locks: ask aloud, and take silence for a no.
  const channel = !navigator.locks && 'BroadcastChannel' in window ? new BroadcastChannel(NAME) : null;
  const ask = () => new Promise((tell) => {
    pause().then(() => tell(true));
    const mine = name() + '!';
    channel.onmessage = (event) => { if (event.data === mine) tell(false); };
    channel.postMessage(name() + '?');
  });
  const alone = async () => (navigator.locks ? lock() : channel ? ask() : true);

  if (!ticket || !(await alone())) {
    ticket = fresh();
    if (navigator.locks) await lock();
  }
  sessionStorage.setItem(NAME, ticket);
  if (channel) channel.onmessage = (event) => { if (event.data === name() + '?') channel.postMessage(name() + '!'); };
  return [ticket.slice(PUBLIC)];
}
