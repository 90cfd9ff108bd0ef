// The memory map: one cell a chunk, drawn on a canvas. Runs once a mount; `element`, `trigger`, `props`, `watch`
// come from the component. Text of documents only ever goes through textContent.
const find = (name) => element.querySelector('.mm-' + name);
const canvas = find('cells'), marks = find('marks');
const tip = find('tip'), live = find('live'), legend = find('legend');
const HELD = 0, PINNED = 1, EVICTED = 2, DELETED = 3, EMPTY = 4;
const STATES = ['in memory', 'pinned', 'evicted', 'deleted', 'not read yet'];
const ORANGE = '#d97706', GREENS = { light: '#15803d', dark: '#56c27a' }, GREY = '#8a8f98';
const RAMPS = { light: [[219, 233, 246], [43, 108, 176], [8, 40, 92]], dark: [[24, 49, 78], [58, 128, 200], [205, 230, 255]] };
let data = null, layout = null, cursor = -1, hover = -1, selected = -1, queued = false;
let painted = null, changed = []; // how the cells on the canvas were painted, and those that are others since

const unpack = (text, Type) => {
  const raw = atob(text || ''), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Type(bytes.buffer);
};
const isDark = () => document.body.classList.contains('dark') || !!element.closest('.dark');
const ramp = (level) => {
  const [a, b, c] = RAMPS[isDark() ? 'dark' : 'light'];
  const [from, to, t] = level < 128 ? [a, b, level / 127.5] : [b, c, level / 127.5 - 1];
  return 'rgb(' + from.map((v, i) => Math.round(v + (to[i] - v) * t)).join(',') + ')';
};

// While somebody drags the replay slider only this map and a few words follow; figures and tables do when it rests.
const REST = 400; // ms
let resting = 0;
document.addEventListener('input', (event) => { if (event.target.closest?.('#replay')) clearTimeout(resting); });

// A value holds all cells, or those that changed since the value before it; whoever missed one asks for all.
function load() {
  const v = props.value;
  if (v && v.base >= 0 && (!data || data.v.serial !== v.base)) { trigger('input', {}); return; }
  if (v && v.base >= 0) change(v); else take(v);
  if (data) levels();
  selected = data ? v.selected : selected;
  cursor = data ? Math.min(cursor, data.n - 1) : -1;
  words();
  draw();
  clearTimeout(resting);
  if (v && v.rests) resting = setTimeout(() => trigger('release', {}), REST);
}

function take(v) {
  painted = null;
  if (!v || !v.n) { data = null; return; }
  const n = v.n, runs = v.runs ? unpack(v.runs, Int32Array) : [];
  const doc = v.runs ? new Uint16Array(n) : unpack(v.doc, Uint16Array);
  const index = v.runs ? new Uint32Array(n) : unpack(v.index, Uint32Array);
  for (let r = 0, i = 0; r < runs.length; r += 3) {
    for (let k = 0; k < runs[r + 2]; k++, i++) { doc[i] = runs[r]; index[i] = runs[r + 1] + k; }
  }
  data = {
    v, n, doc, index, state: unpack(v.state, Uint8Array), count: unpack(v.count, Uint16Array),
    ids: v.ids ? unpack(v.ids, Int32Array) : Int32Array.from({ length: n }, (_, i) => i),
    told: v.level ? unpack(v.level, Uint8Array) : null, level: new Uint8Array(n), recent: new Set(v.recent),
  };
}

function change(v) {
  const at = unpack(v.at, Uint32Array), state = unpack(v.state, Uint8Array), count = unpack(v.count, Uint16Array);
  const ids = unpack(v.ids, Int32Array), told = v.level ? unpack(v.level, Uint8Array) : null;
  at.forEach((i, k) => {
    data.state[i] = state[k];
    data.count[i] = count[k];
    data.ids[i] = ids[k];
    if (told) data.told[i] = told[k];
    changed.push(i);
  });
  data.v = v;
  data.recent = new Set(v.recent);
}

// The place of every cell on the colour ramp; those that got another one are painted again.
function levels() {
  const { v, n, ids, count, told, level } = data;
  for (let i = 0; i < n; i++) {
    const value = told ? 0 : v.colour === 'age' ? (ids[i] < 0 ? 0 : v.written - 1 - ids[i]) : count[i];
    const now = told ? told[i] : v.high > 0 ? Math.round(255 * Math.min(1, Math.max(0, value / v.high))) : 0;
    if (now !== level[i]) { level[i] = now; changed.push(i); }
  }
}

const idOf = (i) => data.ids[i];

// Words, legend, label: only when they change, so that a screen reader is not told the same thing at every frame.
function words() {
  const v = props.value || {};
  find('empty').style.display = data ? 'none' : 'block';
  canvas.style.display = marks.style.display = data ? 'block' : 'none';
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text || ''; };
  set(find('title'), v.title);
  set(find('how'), v.how);
  set(find('empty'), v.empty);
  canvas.setAttribute('aria-label', (v.title || 'Memory map') + '. ' + (v.summary || '') + ' Arrow keys move, Enter opens a chunk.');
  const items = data ? keys(v) : [];
  const key = JSON.stringify([items, isDark()]);
  if (legend.dataset.key === key) return;
  legend.dataset.key = key;
  legend.replaceChildren(...items.map(([style, text, before]) => {
    const item = document.createElement('li'), mark = document.createElement('span');
    mark.className = style.width ? 'ramp' : 'key';
    Object.assign(mark.style, style);
    if (before) item.append(before);
    item.append(mark, text);
    return item;
  }));
}

function keys(v) {
  const items = [];
  if (v.colour === 'document') {
    v.documents.forEach(([id, title]) => items.push([{ background: v.palette[id % v.palette.length] }, title]));
  } else if (/^0%?$/.test(v.high_words)) { // all alike: no range to show
    items.push([{ background: ramp(0) }, v.colour_words + ' ' + v.low_words]);
  } else {
    const stops = [0, 64, 128, 192, 255].map(ramp).join(',');
    items.push([{ width: '96px', background: 'linear-gradient(90deg,' + stops + ')' }, v.high_words, v.colour_words + ' ' + v.low_words]);
  }
  const present = new Set(data.state);
  if (present.has(PINNED)) items.push([{ border: '3px solid ' + GREENS[isDark() ? 'dark' : 'light'] }, 'pinned']);
  if (present.has(EVICTED)) items.push([{ background: ORANGE, transform: 'scale(0.75)' }, 'evicted']);
  if (present.has(DELETED)) items.push([{ border: '2px dotted ' + GREY }, 'deleted']);
  if (present.has(EMPTY)) items.push([{ border: '1px solid ' + GREY, opacity: '0.6' }, v.arrangement === 'bank' ? 'free slot' : 'not read yet']);
  if (data.recent.size) items.push([{ border: '2px solid ' + (isDark() ? '#fff' : '#111'), borderRadius: '50%' }, 'found by the last search']);
  return items;
}

function measure() {
  const width = Math.floor(element.clientWidth);
  if (!width || !data) return null;
  const most = width < 600 ? 420 : 330;
  let size = 26;
  while (size > 3 && Math.ceil(data.n / Math.floor(width / size)) * size > most) size--;
  const columns = Math.max(1, Math.floor(width / size));
  return { width, size, columns, rows: Math.ceil(data.n / columns), gap: size > 9 ? 2 : size > 4 ? 1 : 0 };
}

function draw() {
  if (data && changed.length > data.n) { painted = null; changed = []; } // nobody sees a map of another tab
  if (!queued) { queued = true; requestAnimationFrame(() => { queued = false; paint(); }); }
}

// Cells lie on one canvas, rings around them on another: a step paints the cells that changed, and a few rings.
function paint() {
  layout = measure();
  if (!layout) return;
  const { width, size, columns, rows } = layout, ratio = window.devicePixelRatio || 1, dark = isDark();
  const height = rows * size + 2, key = [data.n, width, size, ratio, dark, data.v.colour].join();
  for (const each of [canvas, marks]) {
    each.style.height = height + 'px';
    if (each.width !== Math.round(width * ratio)) each.width = Math.round(width * ratio);
    if (each.height !== Math.round(height * ratio)) each.height = Math.round(height * ratio);
  }
  const g = canvas.getContext('2d'), table = Array.from({ length: 256 }, (_, i) => ramp(i));
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (painted !== key) {
    g.clearRect(0, 0, width, height);
    for (let i = 0; i < data.n; i++) cell(g, i, table, dark);
  } else {
    for (const i of changed) {
      g.clearRect((i % columns) * size + 1, Math.floor(i / columns) * size + 1, size, size);
      cell(g, i, table, dark);
    }
  }
  painted = key;
  changed = [];
  rings(marks.getContext('2d'), ratio, dark);
}

function cell(g, i, table, dark) {
  const { size, columns, gap } = layout, { v, state, level, doc } = data, box = size - gap, s = state[i];
  const x = (i % columns) * size + 1, y = Math.floor(i / columns) * size + 1;
  if (s === EMPTY || s === DELETED) {
    g.strokeStyle = s === DELETED ? GREY : dark ? 'rgba(160,170,185,0.38)' : 'rgba(110,120,135,0.38)';
    g.lineWidth = 1;
    if (s === DELETED) g.setLineDash([2, 2]);
    if (box > 3) g.strokeRect(x + 0.5, y + 0.5, box - 1, box - 1);
    else { g.fillStyle = g.strokeStyle; g.fillRect(x + 1, y + 1, 1, 1); }
    if (s === DELETED) g.setLineDash([]);
  } else if (s === EVICTED) {
    const inset = box > 5 ? Math.max(1, Math.round(box * 0.15)) : 0;
    g.fillStyle = ORANGE;
    g.fillRect(x + inset, y + inset, box - 2 * inset, box - 2 * inset);
  } else {
    g.fillStyle = v.colour === 'document' ? v.palette[doc[i] % v.palette.length] : table[level[i]];
    g.fillRect(x, y, box, box);
    if (s === PINNED) ring(g, x, y, box, GREENS[dark ? 'dark' : 'light'], Math.max(2, box * 0.18));
  }
}

function rings(g, ratio, dark) {
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, layout.width, layout.rows * layout.size + 2);
  for (let i = 0; i < data.n; i++) {
    if (data.state[i] === EMPTY) continue;
    const id = idOf(i);
    if (data.recent.has(id)) mark(g, i, dark ? '#ffffff' : '#111111', 2, true);
    if (id === selected) mark(g, i, dark ? '#ffffff' : '#000000', 3, false);
  }
  if (cursor >= 0 && document.activeElement === canvas) mark(g, cursor, dark ? '#fde68a' : '#b45309', 2, false);
}

function ring(g, x, y, box, colour, width) {
  g.strokeStyle = colour;
  g.lineWidth = width;
  g.strokeRect(x + width / 2, y + width / 2, box - width, box - width);
}

function mark(g, i, colour, width, round) {
  const { size, columns, gap } = layout, box = size - gap;
  const x = (i % columns) * size + 1, y = Math.floor(i / columns) * size + 1;
  const around = round && box >= 8;
  // Cells go from pale to nearly black: a ring has a rim of the other kind, or half of them would hide it.
  for (const [stroke, extra] of [[isDark() ? '#111111' : '#ffffff', around ? 2 : 0], [colour, 0]]) {
    g.strokeStyle = stroke;
    g.lineWidth = width + extra;
    if (around) { g.beginPath(); g.arc(x + box / 2, y + box / 2, box * 0.32, 0, 7); g.stroke(); } else g.strokeRect(x - 0.5, y - 0.5, box + 1, box + 1);
  }
}

function describe(i) {
  const { v, state, count, doc, index, level } = data, s = state[i];
  const title = (v.documents.find((pair) => pair[0] === doc[i]) || [0, ''])[1];
  if (s === EMPTY) return v.arrangement === 'bank' ? 'Free slot' : title + '\nposition ' + (index[i] + 1) + ', not read yet';
  const parts = ['Chunk ' + (idOf(i) + 1) + ', ' + STATES[s], title + ', position ' + (index[i] + 1), 'triggered ' + count[i] + (count[i] === 1 ? ' time' : ' times')];
  if (v.colour === 'age') parts.push((v.written - 1 - idOf(i)) + ' chunks written since');
  if (v.colour === 'attention') parts.push('about ' + (100 * (v.low + (v.high - v.low) * level[i] / 255)).toPrecision(2) + '% of all attention');
  return parts.join('\n');
}

function at(event) {
  if (!layout || !data) return -1;
  const box = canvas.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left - 1) / layout.size), row = Math.floor((event.clientY - box.top - 1) / layout.size);
  const i = row * layout.columns + column;
  return column < 0 || column >= layout.columns || row < 0 || i >= data.n ? -1 : i;
}

function showTip(i) {
  hover = i;
  if (i < 0 || !layout) { tip.style.display = 'none'; return; }
  tip.textContent = describe(i);
  tip.style.display = 'block';
  const x = (i % layout.columns + 1) * layout.size, y = (Math.floor(i / layout.columns) + 1) * layout.size;
  tip.style.left = Math.max(0, Math.min(x + 6, layout.width - tip.offsetWidth - 2)) + 'px';
  tip.style.top = y + 6 + 'px';
}

function choose(i) {
  if (i < 0 || !data || data.state[i] === EMPTY) return;
  selected = idOf(i);
  draw();
  trigger('click', { chunk_id: selected });
}

canvas.addEventListener('pointermove', (event) => { const i = at(event); if (i !== hover) showTip(i); });
canvas.addEventListener('pointerleave', () => showTip(-1));
canvas.addEventListener('click', (event) => { cursor = at(event); choose(cursor); });
canvas.addEventListener('focus', () => { if (data && cursor < 0) cursor = 0; draw(); });
canvas.addEventListener('blur', () => { showTip(-1); draw(); });
canvas.addEventListener('keydown', (event) => {
  if (!data || !layout) return;
  const c = layout.columns;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -c, ArrowDown: c, PageUp: -5 * c, PageDown: 5 * c, Home: -data.n, End: data.n };
  if (event.key in moves) {
    cursor = Math.max(0, Math.min(data.n - 1, cursor + moves[event.key]));
    live.textContent = describe(cursor);
    showTip(cursor);
    draw();
  } else if (event.key === 'Enter' || event.key === ' ') choose(cursor);
  else if (event.key === 'Escape') showTip(-1);
  else return;
  event.preventDefault();
});

new ResizeObserver(draw).observe(element);
new MutationObserver(() => { words(); draw(); }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
watch('value', load);
load();
