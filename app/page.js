// Arrow keys, Home and End go from tab to tab, as people who work without a mouse expect; Gradio's tabs lack it.
document.addEventListener("keydown", (event) => {
  const tab = event.target.closest('[role="tab"]');
  if (!tab || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const tabs = [...tab.closest('[role="tablist"]').querySelectorAll('[role="tab"]')];
  const here = tabs.indexOf(tab);
  const last = tabs.length - 1;
  const goal = { ArrowRight: here === last ? 0 : here + 1, ArrowLeft: here ? here - 1 : last, Home: 0, End: last }[event.key];
  if (goal === undefined) return;
  event.preventDefault();
  tabs[goal].focus();
  tabs[goal].click();
});
