// What a page brings when it opens: the ticket of its browser tab, by which a page that was loaded again finds what it
// had. A duplicated tab has a copy of the ticket; the page that is open already says so, and the copy gets a new one.
async () => {
  const NAME = 'memlong-visit', PUBLIC = 16, WAIT = 250; // ms for another page's word
  const fresh = () => Array.from(crypto.getRandomValues(new Uint8Array(32)), (b) => b.toString(16).padStart(2, '0')).join('');
  window.addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); }); // its connection is gone
  let ticket;
  try {
    ticket = sessionStorage.getItem(NAME) || '';
  } catch {
    return ['']; // storage is blocked: nothing survives a reload
  }
  const channel = 'BroadcastChannel' in window ? new BroadcastChannel(NAME) : null;
  // Only its first part is ever spoken aloud; the rest, the server's part, stays a secret.
  const asked = () => 'open? ' + ticket.slice(0, PUBLIC), taken = () => 'open! ' + ticket.slice(0, PUBLIC);
  if (ticket && channel) {
    const copied = await new Promise((tell) => {
      setTimeout(() => tell(false), WAIT);
      channel.onmessage = (event) => { if (event.data === taken()) tell(true); };
      channel.postMessage(asked());
    });
    if (copied) ticket = '';
  }
  ticket = ticket || fresh();
  sessionStorage.setItem(NAME, ticket);
  if (channel) channel.onmessage = (event) => { if (event.data === asked()) channel.postMessage(taken()); };
  return [ticket.slice(PUBLIC)];
}
