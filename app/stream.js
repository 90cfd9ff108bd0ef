// A page hears of queued work by one stream, which the server ends as soon as nothing is under way. What is asked for
// at that very moment would never be heard of: its number arrives while the page still takes the stream for open, then
// the end does, and no other stream is opened. So the page is not told of ends: to it one stream goes on for ever, and
// the next one from the server is opened when something is under way again.
() => {
  const plain = window.fetch.bind(window);
  const under = new Set(), early = new Set(); // events under way, and those that ended before their number was known
  let newest = 0, begun = () => {};

  const join = async (...given) => {
    const response = await plain(...given);
    const { event_id: id } = response.ok ? await response.clone().json() : {};
    if (id && !early.delete(id)) under.add(id);
    if (under.size) begun();
    return response;
  };

  async function* messages(response) {
    if (!response.ok) throw new Error(response.statusText);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (text + value).split('\n\n');
      text = parts.pop();
      yield* parts;
    }
  }

  async function* all(number, first, open) {
    for (let response = first; number === newest; response = await open()) {
      for await (const message of messages(response)) {
        const [, what] = /^data: ?\{"msg": ?"(\w+)"/.exec(message) ?? [];
        if (what === 'close_stream') break;
        const [, id] = (what === 'process_completed' && /"event_id": ?"(\w+)"/.exec(message)) || [];
        if (id && !under.delete(id)) early.add(id);
        yield new TextEncoder().encode(message + '\n\n');
      }
      if (!under.size) await new Promise((tell) => { begun = tell; });
    }
  }

  const listen = async (...given) => {
    const request = new Request(...given), open = () => plain(request.clone());
    const first = await open();
    if (!first.ok) return first;
    const body = all((newest += 1), first, open);
    return new Response(new ReadableStream({
      async pull(controller) {
        const { value, done } = await body.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    }), first);
  };

  window.fetch = (...given) => {
    const { pathname } = new URL(given[0].url ?? given[0], window.location.href);
    return (pathname.endsWith('/queue/join') ? join : pathname.endsWith('/queue/data') ? listen : plain)(...given);
  };
}
