// Small things around the document. Text is only ever set as text: nothing here makes markup out of a string.

export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element as T;
}

/** A new element with a class, and children that are elements or plain text. */
export function make(tag: string, name = "", ...children: (Node | string)[]): HTMLElement {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function setIcon(button: HTMLElement, name: string): void {
  const use = button.querySelector("use");
  if (use !== null && use.getAttribute("href") !== `#i-${name}`) use.setAttribute("href", `#i-${name}`);
}

/** Writes only what changed, so that screen readers and the layout are left in peace. */
export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** One item of a list for each text, and no list without any. */
export function setItems(list: HTMLElement, texts: string[]): void {
  texts.forEach((text, place) => {
    const item = list.children[place] ?? list.appendChild(make("li"));
    setText(item as HTMLElement, text);
  });
  while (list.children.length > texts.length) list.lastElementChild?.remove();
  list.hidden = texts.length === 0;
}

export function setLabel(element: HTMLElement, label: string): void {
  if (element.getAttribute("aria-label") === label) return;
  element.setAttribute("aria-label", label);
  element.title = label;
}

async function copy(field: HTMLInputElement | HTMLTextAreaElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    // A page over plain HTTP has no clipboard object: the old way works there.
    field.select();
    return document.execCommand("copy");
  }
}

/** Wires every `data-copy` button to the field that it names. */
export function copyButtons(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-copy]")) {
    const word = button.querySelector("span");
    button.addEventListener("click", async () => {
      const done = await copy(find<HTMLInputElement>(button.dataset["copy"] ?? ""));
      if (word === null) return;
      setText(word, done ? "Copied" : "Press Ctrl+C");
      setIcon(button, done ? "check" : "copy");
      setTimeout(() => {
        setText(word, "Copy");
        setIcon(button, "copy");
      }, 2500);
    });
  }
}

/** Runs `work` now and then `seconds` after it is done, but not while nobody looks at the page. */
export function repeat(work: () => Promise<void>, seconds: number): void {
  let timer: number | undefined;
  let running = false;
  const run = async (): Promise<void> => {
    if (running) return;
    running = true;
    clearTimeout(timer);
    await work();
    running = false;
    if (!document.hidden) timer = window.setTimeout(run, seconds * 1000);
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void run();
  });
  void run();
}
