"""Files that are too large to upload: kept back in the browser, and shown among the documents with the reason.

Gradio's own refusal is a line that goes away by itself, and it drops every file chosen together with the large one.
"""

from __future__ import annotations

ACT = "too-large"  # what the page says of such a file: {act, id: its name, of: its size in bytes}

# A drop holds files that cannot be changed, so what is left of it is chosen anew; that arrives here once more, small.
_WATCH = """
const most = MOST;
const keepBack = (event, input, files) => {
  const small = new DataTransfer(), large = [...files].filter((file) => file.size > most);
  [...files].filter((file) => file.size <= most).forEach((file) => small.items.add(file));
  if (!large.length || !input) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  input.files = small.files;
  if (small.files.length) input.dispatchEvent(new Event('change', {bubbles: true}));
  else input.value = '';
  large.forEach((file) => trigger('click', {act: 'ACT', id: file.name, of: String(file.size)}));
};
document.addEventListener('change', (event) => {
  if (event.target.matches?.('#upload input[type=file]')) keepBack(event, event.target, event.target.files);
}, true);
document.addEventListener('drop', (event) => {
  const box = event.target.closest?.('#upload');
  if (box) keepBack(event, box.querySelector('input[type=file]'), event.dataTransfer?.files ?? []);
}, true);
"""


def watch(most: int) -> str:
    """Return the script, for an HTML component, that keeps back files of more than ``most`` bytes and tells of them."""
    return _WATCH.replace("MOST", str(most)).replace("ACT", ACT)
