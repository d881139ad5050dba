// A canvas of class codes with brush and fill; its value is a PNG data URL in the codes' colours.
// props: side in pixels; codes: [name, "#rrggbb"] of each; examples: data URLs; what: its name.
const { side, codes, examples, what } = props;
const root = element.querySelector(".painter");
const colours = codes.map(([, hex]) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const codeOf = new Map(colours.map(([r, g, b], code) => [(r << 16) | (g << 8) | b, code]));
const pixels = new Uint8Array(side * side);
const past = [];
const MOST_UNDONE = 30;
let code = 1;
let size = Math.max(1, Math.round(side / 24));
let cursor = [side / 2, side / 2];
let published = null;

function make(tag, parent, attributes = {}, text = "") {
  const made = parent.appendChild(document.createElement(tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function choices(parent, label, names, chosen, choose, swatches = []) {
  const group = make("div", parent, { role: "radiogroup", "aria-label": label, class: "choices" });
  const name = `painter-${Math.random().toString(36).slice(2)}`;
  names.forEach((text, index) => {
    const item = make("label", group);
    const input = make("input", item, { type: "radio", name });
    input.checked = index === chosen;
    input.addEventListener("change", () => choose(index));
    if (swatches[index]) make("i", item, { style: `background:${swatches[index]}` });
    make("span", item, {}, text);
  });
}

const tools = make("div", root, { class: "tools" });
let filling = false;
choices(tools, "Tool", ["Brush", "Fill"], 0, (index) => { filling = index === 1; point(); });
const width = make("label", tools, { class: "width" }, "Brush width");
const range = make("input", width, { type: "range", min: 1, max: Math.round(side / 4), value: size });
range.addEventListener("input", () => { size = Number(range.value); point(); });
make("button", tools, { type: "button" }, "Undo").addEventListener("click", undo);
make("button", tools, { type: "button" }, "Clear").addEventListener("click", () => {
  remember();
  pixels.fill(0);
  publish();
});

const frame = make("div", root, { class: "frame" });
const canvas = make("canvas", frame, {
  width: side, height: side, tabindex: 0, role: "application",
  "aria-label": `${what}: arrow keys move, with Shift by one pixel; Space paints; Ctrl+Z undoes`,
});
const ring = make("div", frame, { class: "ring", "aria-hidden": "true" });
const context = canvas.getContext("2d", { willReadFrequently: true });
choices(root, "Part to paint", codes.map(([name]) => name), code, (index) => { code = index; },
  codes.map(([, hex]) => hex));
if (examples.length) {
  const strip = make("div", root, { class: "strip", role: "group", "aria-label": "Examples" });
  examples.forEach((url, index) => {
    const button = make("button", strip, { type: "button", "aria-label": `Example ${index + 1}` });
    make("img", button, { src: url, alt: "" });
    button.addEventListener("click", () => { remember(); read(url, publish); });
  });
}

function draw() {
  const image = context.createImageData(side, side);
  pixels.forEach((value, at) => image.data.set([...colours[value], 255], 4 * at));
  context.putImageData(image, 0, 0);
}

function publish() {
  draw();
  published = canvas.toDataURL("image/png");
  props.value = published;
}

function read(url, then) {
  const image = new Image();
  image.onload = () => {
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, 0, side, side);
    const { data } = context.getImageData(0, 0, side, side);
    for (let at = 0; at < pixels.length; at++) {
      const [r, g, b] = data.subarray(4 * at, 4 * at + 3);
      pixels[at] = codeOf.get((r << 16) | (g << 8) | b) ?? 0;
    }
    then();
  };
  image.src = url;
}

function remember() {
  past.push(pixels.slice());
  if (past.length > MOST_UNDONE) past.shift();
}

function undo() {
  if (!past.length) return;
  pixels.set(past.pop());
  publish();
}

function stamp(x, y) {
  const radius = size / 2;
  const [left, right] = [Math.ceil(x - radius - 0.5), Math.floor(x + radius - 0.5)];
  const [top, bottom] = [Math.ceil(y - radius - 0.5), Math.floor(y + radius - 0.5)];
  for (let row = Math.max(top, 0); row <= Math.min(bottom, side - 1); row++) {
    for (let column = Math.max(left, 0); column <= Math.min(right, side - 1); column++) {
      const inside = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= Math.max(radius ** 2, 0.5);
      if (inside) pixels[row * side + column] = code;
    }
  }
}

function line([x0, y0], [x1, y1]) {
  const steps = Math.max(1, Math.ceil(2 * Math.hypot(x1 - x0, y1 - y0)));
  for (let step = 0; step <= steps; step++) {
    stamp(x0 + ((x1 - x0) * step) / steps, y0 + ((y1 - y0) * step) / steps);
  }
}

function fill([x, y]) {
  const start = Math.floor(y) * side + Math.floor(x);
  const old = pixels[start];
  if (old === code) return;
  const open = [start];
  while (open.length) {
    const at = open.pop();
    if (pixels[at] !== old) continue;
    pixels[at] = code;
    if (at % side > 0) open.push(at - 1);
    if (at % side < side - 1) open.push(at + 1);
    if (at >= side) open.push(at - side);
    if (at < side * (side - 1)) open.push(at + side);
  }
}

function apply() {
  remember();
  if (filling) fill(cursor);
  else stamp(...cursor);
}

function point() {
  const across = ((filling ? 1 : size) / side) * 100;
  ring.style.cssText = `left:${(cursor[0] / side) * 100}%;top:${(cursor[1] / side) * 100}%;` +
    `width:${across}%;height:${across}%`;
}

function under(event) {
  const box = canvas.getBoundingClientRect();
  return [[event.clientX, box.left, box.width], [event.clientY, box.top, box.height]].map(
    ([at, start, length]) => Math.min(Math.max(((at - start) / length) * side, 0), side - 0.01),
  );
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  cursor = under(event);
  point();
  apply();
  draw();
});
canvas.addEventListener("pointermove", (event) => {
  const before = cursor;
  cursor = under(event);
  point();
  if (!canvas.hasPointerCapture(event.pointerId) || filling) return;
  line(before, cursor);
  draw();
});
canvas.addEventListener("pointerup", publish);
canvas.addEventListener("pointercancel", publish);
canvas.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in moves) {
    const by = event.shiftKey ? 1 : Math.max(1, Math.round(side / 32));
    cursor = cursor.map((at, axis) =>
      Math.min(Math.max(at + by * moves[event.key][axis], 0), side - 0.5));
    point();
  } else if (event.key === " " || event.key === "Enter") {
    apply();
    publish();
  } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
    undo();
  } else {
    return;
  }
  event.preventDefault();
});

watch("value", () => {
  if (!props.value || props.value === published) return;
  remember();
  read(props.value, publish);
});
draw();
point();
if (props.value) read(props.value, publish);
