// Elements. In: names, attributes, texts. Out: nodes. Text from outside only ever becomes text.

/** The element of the page with this id. */
export const at = (id) => document.getElementById(id);

/** A new element; properties beginning with `data-` or `aria-`, and `class` and `role`, become attributes. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key === 'class' || key === 'role' || key.includes('-')) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets a text, and touches the page only if it is another one. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Puts children in this order, and moves only those that are elsewhere: focus and scroll stay. */
export function arrange(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let place = parent.firstElementChild;
  for (const child of children) {
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}

/** Calls at most once a frame and once in `least` milliseconds, with the newest state. */
export function throttled(draw, least = 250) {
  let due = false;
  let last = -Infinity;
  return () => {
    if (due) return;
    due = true;
    const wait = Math.max(0, last + least - performance.now());
    setTimeout(() => requestAnimationFrame(() => {
      due = false;
      last = performance.now();
      draw();
    }), wait);
  };
}
