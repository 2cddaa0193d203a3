/* race(root, data): lanes of recorded arrivals, replayed at true speed. Model text only ever becomes text nodes. */
function race(root, data) {
  if (root.dataset.key === data.key && root.stop) { root.recolour(data); return root.stop; }
  if (root.stop) root.stop();
  root.dataset.key = data.key;
  root.replaceChildren();
  const make = (parent, tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const seconds = (ms) => (ms < 10000 ? (ms / 1000).toFixed(2) : (ms / 1000).toFixed(1)) + " s";
  const behind = (ms) => "+" + (ms < 995 ? Math.max(1, Math.round(ms)) + " ms" : (ms / 1000).toFixed(1) + " s");
  const slowest = Math.max(1, ...data.lanes.map((lane) => lane.end));
  const fastest = Math.min(...data.lanes.map((lane) => lane.end));
  if (race.hatched.includes(data.kind)) make(root, "div", "hatched").title = data.kind;
  const board = make(root, "div", "lanes");
  const lanes = data.lanes.map((lane) => {
    const box = make(board, "div", "lane");
    box.style.setProperty("--arm", lane.colour);
    const head = make(box, "div", "head");
    make(head, "span", "name", lane.arm);
    const clock = make(head, "span", "clock", "0.00 s");
    const note = make(box, "div", "note");
    const paper = make(box, "div", "paper");
    const text = make(paper, "p", "text");
    const node = document.createTextNode("");
    text.append(node);
    make(text, "span", "caret");
    const ends = [];
    let whole = "";
    for (const [, part] of lane.arrivals) {
      whole += typeof part === "number" ? "\u2588".repeat(part) : part;
      ends.push(whole.length);
    }
    const at = lane.arrivals.map(([ms]) => ms);
    return { box, clock, note, node, at, ends, whole, end: lane.end, seen: 0, done: null, trial: lane.trial, failed: lane.failed };
  });
  const count = (lane, now) => {                       // arrivals up to `now`
    let low = 0, high = lane.at.length;
    while (low < high) { const mid = (low + high) >> 1; if (lane.at[mid] <= now) low = mid + 1; else high = mid; }
    return low;
  };
  const length = (lane, now) => { const n = count(lane, now); return n ? lane.ends[n - 1] : 0; };

  const controls = make(root, "div", "controls");
  const button = make(controls, "button", "play", "Play");
  button.type = "button";
  const scrub = make(controls, "input");
  Object.assign(scrub, { type: "range", min: 0, max: slowest, step: "any", value: 0 });
  scrub.setAttribute("aria-label", "Position in the race");
  const speeds = make(controls, "div", "speeds");
  speeds.setAttribute("role", "group");
  speeds.setAttribute("aria-label", "Speed");
  let now = 0, speed = 1, playing = false, last = 0, frame = 0;
  const chosen = [0.25, 0.5, 1, 2, 4].map((factor) => {
    const key = make(speeds, "button", "", "×" + factor);
    key.type = "button";
    key.onclick = () => { speed = factor; press(); };
    return [factor, key];
  });
  const press = () => chosen.forEach(([factor, key]) => key.setAttribute("aria-pressed", String(factor === speed)));
  press();

  const step = slowest <= 5000 ? slowest / 10 : Math.max(500, slowest / 20);
  const film = make(root, "div", "film");
  data.lanes.forEach((lane, row) => {
    const strip = make(film, "div", "strip");
    strip.style.setProperty("--arm", lane.colour);
    for (let stop = step; stop < slowest + step * 0.5; stop += step) {
      const moment = Math.min(stop, slowest);
      const cell = make(strip, "button", "frame" + (moment >= lane.end ? " whole" : ""));
      cell.type = "button";
      cell.setAttribute("aria-label", lane.arm + " at " + seconds(moment));
      make(cell, "i", "", lanes[row].whole.slice(0, Math.min(length(lanes[row], moment), 400)));
      if (row === data.lanes.length - 1) make(cell, "span", "at", seconds(moment));
      cell.onclick = () => { pause(); seek(moment); };
    }
  });

  const draw = () => {
    for (const lane of lanes) {
      const n = length(lane, now);
      if (n > lane.seen) lane.node.appendData(lane.whole.slice(lane.seen, n));
      else if (n < lane.seen) lane.node.data = lane.whole.slice(0, n);
      lane.seen = n;
      const done = now >= lane.end;
      const late = lane.end - fastest;
      lane.clock.textContent = !done ? seconds(now) : late > 0 ? behind(late) : seconds(lane.end);
      if (done !== lane.done) { lane.done = done; lane.box.classList.toggle("done", done); }
      const first = lane.at.length && now >= lane.at[0] ? "first text " + seconds(lane.at[0]) : "waiting";
      const words = (done && !lane.at.length ? "no text to show" : first) + (done ? ", end " + seconds(lane.end) : "") + (done && lane.failed ? ", " + lane.failed : "") + " · trial " + lane.trial;
      if (lane.note.textContent !== words) lane.note.textContent = words;
    }
    scrub.value = now;
  };
  const seek = (ms) => { now = Math.max(0, Math.min(ms, slowest)); draw(); label(); };
  const label = () => { const words = playing ? "Pause" : now >= slowest ? "Replay" : "Play"; if (button.textContent !== words) button.textContent = words; };
  const tick = (time) => {
    if (!playing) return;
    now = Math.min(slowest, now + (time - last) * speed);
    last = time;
    draw();
    if (now >= slowest) playing = false; else frame = requestAnimationFrame(tick);
    label();
  };
  const play = () => {
    if (now >= slowest) now = 0;
    playing = true;
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame((time) => { last = time; tick(time); });
    label();
  };
  const pause = () => { playing = false; cancelAnimationFrame(frame); label(); };
  button.onclick = () => (playing ? pause() : play());
  scrub.oninput = () => { pause(); seek(Number(scrub.value)); };
  scrub.setAttribute("aria-valuetext", "milliseconds from the start");

  let seen = null;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) seek(slowest);
  else {
    seek(0);
    seen = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) { seen.disconnect(); play(); } }, { threshold: 0.4 });
    seen.observe(board);
  }
  root.recolour = (fresh) => fresh.lanes.forEach((lane, row) => {
    lanes[row].box.style.setProperty("--arm", lane.colour);
    film.children[row].style.setProperty("--arm", lane.colour);
  });
  root.stop = () => { pause(); if (seen) seen.disconnect(); root.stop = null; };
  return root.stop;
}
