// What gradio's tabs lack: arrows, Home and End go from tab to tab, as screen readers and people expect of a tab list.
() => {
  const list = document.querySelector('#tabs [role=tablist]');
  if (!list) return;
  list.addEventListener('keydown', (event) => {
    const tabs = [...list.querySelectorAll('[role=tab]:not(:disabled)')].filter((tab) => tab.offsetParent);
    const at = tabs.indexOf(document.activeElement), n = tabs.length;
    const to = { ArrowRight: (at + 1) % n, ArrowLeft: (at - 1 + n) % n, Home: 0, End: n - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    tabs[to].focus();
  });
}
