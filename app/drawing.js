// The drawing pad's behaviour. `element`, `props` and `trigger` are handed in by the page.
const canvas = element.querySelector("canvas");
const width = element.querySelector("input");
const pen = canvas.getContext("2d");
let strokes = []; // each { width, points: [[x, y], …] } in canvas pixels
let current = null;

function paint(stroke) {
  pen.strokeStyle = pen.fillStyle = "#222";
  pen.lineWidth = stroke.width;
  pen.lineCap = pen.lineJoin = "round";
  const [first, ...rest] = stroke.points;
  pen.beginPath();
  pen.arc(...first, stroke.width / 2, 0, 2 * Math.PI); // a tap is a dot; a line of no length is not drawn
  pen.fill();
  pen.beginPath();
  pen.moveTo(...first);
  for (const point of rest) pen.lineTo(...point);
  pen.stroke();
}

function repaint() {
  pen.fillStyle = "#fff"; // not transparent: what is sent is what is seen
  pen.fillRect(0, 0, canvas.width, canvas.height);
  strokes.forEach(paint);
}

function send() {
  props.value = strokes.length ? canvas.toDataURL("image/png") : "";
  trigger("input");
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return; // only the first button draws
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  current = { width: Number(width.value), points: [place(event)] };
  strokes.push(current);
  paint(current);
});
canvas.addEventListener("pointermove", (event) => {
  if (!current) return;
  current.points.push(place(event));
  paint({ width: current.width, points: current.points.slice(-2) });
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, () => {
    if (!current) return;
    current = null;
    send();
  });
}

element.querySelector(".pad-undo").addEventListener("click", () => {
  if (!strokes.pop()) return;
  repaint();
  send();
});
element.querySelector(".pad-clear").addEventListener("click", () => {
  if (!strokes.length) return;
  strokes = [];
  repaint();
  send();
});
canvas.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z") element.querySelector(".pad-undo").click();
});
repaint();
