// The painting page in the browser. Gradio runs this with `element`, the component that holds painting.html.
// The drawing is two planes of numbers, class ids and objects, and the canvas only shows them: nothing is read back from
// pixels, so no smoothing and no privacy filter of a browser can change an id. See model/serving/painting.py for the formats.

const root = element.querySelector(".studio");
const $ = (selector) => root.querySelector(selector);
const $$ = (selector) => [...root.querySelectorAll(selector)];
const canvas = $("canvas"), context = canvas.getContext("2d"), picture = $(".result img");
const UNDO_STEPS = 50, LONGEST_LINK = 16000;

let model; // what the server's `describe` says
let width, height, area; // of the drawing in pixels
let drawing, base; // Uint16Array [2,height,width] each, the drawing and what it started from
let colours; // [red, green, blue] by id
let undone = [], done = [];
let tool = "brush", chosen = 0, brush = 1;
let styles = [null, null], slot = 0;

// ---------------------------------------------------------------------------------------------------------- the server

async function call(name, ...data) {
  const url = new URL("gradio_api/call/" + name, location.href.split(/[?#]/)[0]);
  for (let attempt = 0; ; attempt++) {
    const asked = await reach(url, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ data }),
    });
    if (asked.status === 503 && attempt < 20) { // the queue is full
      await new Promise((wake) => setTimeout(wake, 1000 + 2000 * Math.random()));
      continue;
    }
    if (asked.status === 413) throw new Error("The file is too large for the server: scale it down.");
    if (!asked.ok) throw new Error(`The server refused (${asked.status}): try again in a moment.`);
    const { event_id } = await asked.json();
    const text = await (await reach(`${url}/${event_id}`)).text();
    const events = [...text.matchAll(/^event: (\w+)\r?\ndata: (.*)$/gm)].filter((event) => event[1] !== "heartbeat");
    const [, kind, answer] = events.at(-1) ?? [, "error", "null"];
    if (kind === "complete") return JSON.parse(answer)[0];
    const problem = JSON.parse(answer);
    throw new Error(problem?.error ?? "The server had a problem with this: see its terminal.");
  }
}

const reach = (url, options) => fetch(url, options).catch(() => {
  throw new Error("The server does not answer: is it still running?");
});

let hiding;
function say(text, kind = "error") {
  const box = $(".message");
  box.querySelector("span").textContent = text;
  box.classList.toggle("note", kind === "note");
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), kind === "note" ? 4000 : 12000);
}

// Runs a function and shows what it throws.
const guarded = (action) => async (...given) => {
  try {
    await action(...given);
  } catch (error) {
    say(error.message);
  }
};

// -------------------------------------------------------------------------------------------------- drawings as text

const through = (stream, data) => new Response(new Blob([data]).stream().pipeThrough(stream)).arrayBuffer();

function toBase64(buffer) {
  const bytes = new Uint8Array(buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

const packed = async (data) => toBase64(await through(new CompressionStream("deflate"), data));
const forLink = (text) => text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

// What `packed` made, in a link or not.
function unpacked(text) {
  const letters = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return through(new DecompressionStream("deflate"), Uint8Array.from(letters, (letter) => letter.charCodeAt(0)));
}

async function drawingOf(text) {
  const planes = new Uint16Array(await unpacked(text));
  if (planes.length !== 2 * area || planes.subarray(0, area).some((id) => id >= model.names.length)) {
    throw new Error("This drawing was made for another model.");
  }
  return planes;
}

// --------------------------------------------------------------------------------------------------------- the canvas

function paintPixels(target, planes) {
  const shown = target.createImageData(width, height), pixels = shown.data;
  // two objects of one class, which have the same colour
  const parted = (i, j) => planes[i] === planes[j] && planes[area + i] !== planes[area + j];
  for (let i = 0, p = 0; i < area; i++, p += 4) {
    const rgb = colours[planes[i]];
    const edge = ((i + 1) % width && parted(i, i + 1)) || (i + width < area && parted(i, i + width));
    for (let c = 0; c < 3; c++) pixels[p + c] = edge ? rgb[c] * 0.55 : rgb[c];
    pixels[p + 3] = 255;
  }
  target.putImageData(shown, 0, 0);
}

function show() {
  paintPixels(context, drawing);
  $("[data-do=undo]").disabled = !done.length;
  $("[data-do=redo]").disabled = !undone.length;
}

function remember() {
  done.push({ drawing: drawing.slice(), base });
  if (done.length > UNDO_STEPS) done.shift();
  undone = [];
}

function travel(from, to) {
  if (!from.length) return;
  to.push({ drawing, base });
  ({ drawing, base } = from.pop());
  follow();
}

function begin(planes) {
  remember();
  base = planes;
  drawing = planes.slice();
  follow();
}

function newObject() {
  if (!model.instances || !$(".separate input").checked) return 0;
  return drawing.subarray(area).reduce((most, number) => Math.max(most, number)) % 65535 + 1;
}

function setPixel(i, object) {
  drawing[i] = tool === "erase" ? base[i] : chosen;
  drawing[area + i] = tool === "erase" ? base[area + i] : object;
}

// A disk of `brush` pixels across, moved along a line.
function stroke(x0, y0, x1, y1, object) {
  const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1), middle = (brush - 1) / 2;
  for (let step = 0; step <= steps; step++) {
    const left = Math.round(x0 + ((x1 - x0) * step) / steps - middle);
    const top = Math.round(y0 + ((y1 - y0) * step) / steps - middle);
    for (let j = Math.max(0, -top); j < brush && top + j < height; j++) {
      for (let i = Math.max(0, -left); i < brush && left + i < width; i++) {
        if ((i - middle) ** 2 + (j - middle) ** 2 <= (brush / 2) ** 2) setPixel((top + j) * width + left + i, object);
      }
    }
  }
}

function fill(x, y) {
  const start = y * width + x, id = drawing[start], old = drawing[area + start], object = newObject();
  const seen = new Uint8Array(area), waiting = [start];
  seen[start] = 1;
  while (waiting.length) {
    const i = waiting.pop(), column = i % width;
    setPixel(i, object);
    for (const next of [column ? i - 1 : -1, column + 1 < width ? i + 1 : -1, i - width, i + width]) {
      if (next >= 0 && next < area && !seen[next] && drawing[next] === id && drawing[area + next] === old) {
        seen[next] = 1;
        waiting.push(next);
      }
    }
  }
}

let last = null; // place of the pointer while a stroke goes on
let object = 0;

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [
    Math.floor(((event.clientX - box.left) / box.width) * width),
    Math.floor(((event.clientY - box.top) / box.height) * height),
  ];
}

function press(event) {
  if (event.button || !event.isPrimary) return;
  event.preventDefault();
  canvas.focus({ preventScroll: true });
  const [x, y] = place(event);
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  if (tool === "pick") {
    choose(drawing[y * width + x]);
    return use("brush");
  }
  remember();
  if (tool === "fill") {
    fill(x, y);
    return follow();
  }
  canvas.setPointerCapture(event.pointerId);
  last = [x, y];
  object = newObject();
  stroke(x, y, x, y, object);
  show();
}

function move(event) {
  const cursor = $(".cursor"), box = canvas.getBoundingClientRect();
  const size = Math.max((brush * box.width) / width, 4);
  cursor.style.display = tool === "brush" || tool === "erase" ? "block" : "none";
  Object.assign(cursor.style, {
    width: size + "px", height: size + "px", left: event.clientX - box.left + "px", top: event.clientY - box.top + "px",
  });
  if (!last) return;
  const parts = event.getCoalescedEvents?.() ?? [];
  for (const part of parts.length ? parts : [event]) {
    const now = place(part);
    stroke(...last, ...now, object);
    last = now;
  }
  if (seconds < 0.5) follow();
  else show();
}

function release() {
  if (!last) return;
  last = null;
  follow();
}

// -------------------------------------------------------------------------------------------------------- the picture

let wanted = false, running = false, seconds = 1;

// Show the drawing as it is now and ask for its picture: one request at a time, and the newest drawing wins.
async function follow() {
  show();
  wanted = true;
  if (running) return;
  running = true;
  root.dataset.following = "true";
  const sign = setTimeout(() => $(".result").setAttribute("aria-busy", "true"), 500);
  const paint = guarded(async () => {
    wanted = false;
    const begun = performance.now();
    const answer = await call("paint", await packed(drawing), style());
    seconds = (performance.now() - begun) / 1000;
    picture.src = answer.picture;
    $("[data-do=picture]").disabled = false;
    $(".time").textContent = `${seconds.toFixed(2)} s`;
    root.dataset.pictures = Number(root.dataset.pictures ?? 0) + 1;
  });
  while (wanted) await paint();
  clearTimeout(sign);
  $(".result").setAttribute("aria-busy", "false");
  running = false;
  root.dataset.following = "false";
}

// ---------------------------------------------------------------------------------------------------- classes, tools

function make(kind, properties, ...inside) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...inside);
  return made;
}

// Mark the buttons of which `isOn` says so by their data.
function mark(buttons, isOn) {
  for (const button of $$(buttons)) button.setAttribute("aria-pressed", isOn(button.dataset));
}

function choose(id) {
  chosen = id;
  $(".chosen i").style.background = model.colours[id];
  $(".chosen b").textContent = model.names[id];
  mark(".list button", (data) => Number(data.id) === id);
}

function list() {
  const words = $(".search").value.trim().toLowerCase();
  const fits = (id) => model.names[id].toLowerCase().includes(words) || String(id) === words;
  const rest = model.names.map((_, id) => id).filter((id) => !model.first.includes(id));
  const box = $(".list");
  box.replaceChildren();
  for (const [title, members] of [["Landscapes", model.first], ["All others", rest]]) {
    const found = members.filter(fits);
    if (found.length && model.first.length && rest.length) box.append(make("h3", {}, title));
    for (const id of found) {
      const onclick = () => {
        choose(id);
        if (tool === "erase" || tool === "pick") use("brush");
      };
      const swatch = make("i", { style: `background: ${model.colours[id]}` });
      const button = make("button", { type: "button", onclick }, swatch, model.names[id]);
      button.dataset.id = id;
      box.append(button);
    }
  }
  if (!box.children.length) box.append(make("p", { className: "none" }, "No class of that name."));
  choose(chosen);
}

function use(name) {
  tool = name;
  mark("[data-tool]", (data) => data.tool === name);
}

function resize(size) {
  brush = Math.min(Math.max(Math.round(size), 1), Number($(".brush").max));
  $(".brush").value = brush;
  $(".size output").textContent = brush;
}

// -------------------------------------------------------------------------------------------------------------- styles

// A style is {seed}, {gallery: index} or {vector, photo}; the server knows seeds and vectors.
const whole = (given) => model.gallery[given?.gallery] ?? given;

function style() {
  const [first, second] = styles.map((given) => given && { ...whole(given), photo: undefined });
  return model.styles ? { first, second, mix: Number($(".mix").value) } : {};
}

function setStyle(given) {
  styles[slot] = given;
  if (slot === 1 && $(".mix").value === "0") $(".mix").value = 50;
  showStyles();
  follow();
}

function showStyles() {
  $(".mix").disabled = !styles[1];
  for (const [number, sign] of $$(".slot span").entries()) {
    const given = styles[number], photo = whole(given)?.photo;
    sign.style.backgroundImage = photo ? `url("${photo}")` : "";
    sign.textContent = photo ? "" : given ? given.seed ?? "photo" : "none";
  }
  const active = styles[slot];
  mark(".slot", (data) => Number(data.slot) === slot);
  mark(".style .tiles [data-gallery]", (data) => Number(data.gallery) === active?.gallery);
  if (active && "seed" in active) $(".seed input").value = active.seed;
}

// ------------------------------------------------------------------------------------------------------ start, uploads

// What `use` does with the server's answer to a chosen file.
function uploads(input, name, use) {
  input.onchange = guarded(async () => {
    const file = input.files[0];
    input.value = "";
    if (!file) return;
    const [size, most] = [file.size, model.max_upload].map((bytes) => bytes / 2 ** 20);
    try {
      if (size > most) throw new Error(`it has ${size.toFixed(1)} MB: at most ${most} MB are read, scale it down.`);
      await use(await call(name, toBase64(await file.arrayBuffer())));
    } catch (error) {
      throw new Error(`${file.name}: ${error.message}`);
    }
  });
}

const blank = () => new Uint16Array(2 * area).fill(chosen, 0, area);

async function fillStart() {
  uploads($(".start input[type=file]"), "read_map", async (answer) => begin(await drawingOf(answer.drawing)));
  for (const [index, text] of model.scenes.entries()) {
    const scene = await drawingOf(text), small = make("canvas", { width, height });
    paintPixels(small.getContext("2d"), scene);
    const about = { title: `Sample scene ${index + 1}`, onclick: () => begin(scene) };
    $(".start .tiles").append(make("button", { type: "button", ...about }, small));
  }
}

function fillStyles() {
  $(".style").hidden = !model.styles;
  $("[data-do=photo]").hidden = !model.photos;
  uploads($(".style input[type=file]"), "read_photo", setStyle);
  for (const [index, entry] of model.gallery.entries()) {
    const about = { title: `Style ${index + 1}`, onclick: () => setStyle({ gallery: index }) };
    const button = make("button", { type: "button", ...about }, make("img", { src: entry.photo, alt: "" }));
    button.dataset.gallery = index;
    $(".style .tiles").append(button);
  }
  const seed = $(".seed input");
  seed.onchange = () => setStyle({ seed: Math.min(Math.max(Math.floor(Number(seed.value)) || 0, 0), 2 ** 32 - 1) });
  for (const [number, button] of $$(".slot").entries()) {
    button.onclick = () => {
      slot = number;
      showStyles();
    };
  }
  $(".mix").oninput = follow;
}

// --------------------------------------------------------------------------------------------------- saving and links

function save(url, name) {
  const link = make("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

async function copyLink() {
  const settings = { styles: styles.map(known), mix: Number($(".mix").value), chosen, brush, separate: $(".separate input").checked };
  const parts = new URLSearchParams({ s: forLink(await packed(JSON.stringify(settings))) });
  const text = forLink(await packed(drawing));
  const fits = text.length <= LONGEST_LINK;
  if (fits) parts.set("d", text);
  history.replaceState(null, "", "#" + parts);
  try {
    await navigator.clipboard.writeText(location.href);
    say(fits ? "The link is copied: it holds the drawing and its style." : "The link holds the style only: this drawing is too detailed for one, save its label map.", "note");
  } catch {
    say("The link is in the address bar.", "note");
  }
}

// A link may come from anyone: only what a style consists of is taken from it.
function known(given) {
  if (Number.isInteger(given?.seed)) return { seed: given.seed };
  if (Number.isInteger(given?.gallery) && given.gallery in model.gallery) return { gallery: given.gallery };
  return Array.isArray(given?.vector) ? { vector: given.vector.map(Number) } : null;
}

async function openLink() {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (!parts.has("s")) return false;
  try {
    const settings = JSON.parse(new TextDecoder().decode(await unpacked(parts.get("s"))));
    const planes = parts.has("d") ? await drawingOf(parts.get("d")) : null;
    styles = [0, 1].map((number) => known(settings.styles[number]));
    $(".mix").value = Number(settings.mix) || 0;
    $(".separate input").checked = Boolean(settings.separate);
    choose(Number(settings.chosen) in model.names ? Number(settings.chosen) : 0);
    resize(Number(settings.brush) || 1);
    showStyles();
    if (planes) begin(planes);
    else follow();
    return true;
  } catch {
    say("This link was made for another model, or a part of it is missing.");
    return false;
  }
}

// --------------------------------------------------------------------------------------------------------------- start

const shortcuts = { b: "brush", f: "fill", e: "erase", i: "pick" };

function key(event) {
  if (!root.isConnected || event.target.closest?.("input, textarea")) return;
  const letter = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (letter === "z" && !event.shiftKey) travel(done, undone);
    else if (letter === "y" || letter === "z") travel(undone, done);
    else return;
  } else if (shortcuts[letter]) use(shortcuts[letter]);
  else if (letter === "[") resize(brush / 1.25 - 0.5);
  else if (letter === "]") resize(brush * 1.25 + 0.5);
  else return;
  event.preventDefault();
}

async function start() {
  if (!window.CompressionStream) throw new Error("This browser is too old for the page: it needs one of 2023 or newer.");
  model = await call("describe");
  ({ width, height } = model);
  area = width * height;
  colours = model.colours.map((code) => [1, 3, 5].map((at) => parseInt(code.slice(at, at + 2), 16)));
  $(".model").textContent = `Model: ${model.model}.`;
  Object.assign(canvas, { width, height });
  for (const stage of $$(".stage")) stage.style.setProperty("--ratio", width / height);
  $(".separate").hidden = !model.instances;
  $(".brush").max = Math.max(Math.round(Math.min(width, height) / 3), 8);
  resize(Math.min(width, height) / 12);
  use("brush");
  chosen = model.first[0] ?? 0;
  list();
  fillStyles();
  styles[0] = model.gallery.length ? { gallery: 0 } : { seed: 0 };
  showStyles();
  base = model.scenes.length ? await drawingOf(model.scenes[0]) : blank();
  drawing = base.slice();
  show();
  await fillStart();
  if (!(await openLink())) follow();

  canvas.onpointerdown = press;
  canvas.onpointermove = move;
  canvas.onpointerup = canvas.onpointercancel = release;
  canvas.onpointerleave = () => ($(".cursor").style.display = "none");
  picture.onclick = () => picture.parentElement.classList.toggle("large");
  for (const button of $$("[data-tool]")) button.onclick = () => use(button.dataset.tool);
  $(".brush").oninput = (event) => resize(Number(event.target.value));
  $(".search").oninput = list;
  $(".search").onkeydown = (event) => {
    if (event.key === "Enter") $(".list button")?.click();
  };
  const actions = {
    blank: () => begin(blank()),
    upload: () => $(".start input[type=file]").click(),
    photo: () => $(".style input[type=file]").click(),
    random: () => setStyle({ seed: Math.floor(Math.random() * 10000) }),
    undo: () => travel(done, undone),
    redo: () => travel(undone, done),
    link: copyLink,
    picture: () => save(picture.src, "picture.png"),
    map: async () => save((await call("write_map", await packed(drawing))).map, "label_map.png"),
  };
  for (const button of $$("[data-do]")) button.onclick = guarded(actions[button.dataset.do]);
  window.addEventListener("keydown", key);
  window.addEventListener("hashchange", openLink);
  root.dataset.state = "ready";
}

$(".message button").onclick = () => ($(".message").hidden = true);
guarded(start)();
