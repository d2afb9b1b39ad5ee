// The little that all panels do to the document. Elements are kept and only their texts change, so that nothing jumps,
// a selection stays, and whoever listens to the page is not told what is as it was.

export const byId = (id) => document.getElementById(id);

/** Changes a text only if it is another one. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Gives a parent so many children. */
export function fit(parent, count, make) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(make());
}

/** A new element with these children. */
export function made(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}
