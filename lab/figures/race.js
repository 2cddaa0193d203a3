/* race(root, data): lanes of recorded arrivals, replayed at true speed to the headline's finish line; figures on the same clock carry its moment.
   Model text only ever becomes text nodes. */
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
  const roving = (group, rows) => {                     // one stop for Tab; inside it the arrow keys move
    group.setAttribute("role", "toolbar");
    const keys = rows.flat(), stop = (here) => keys.forEach((key) => { key.tabIndex = key === here ? 0 : -1; });
    stop(keys[0]);
    group.addEventListener("focusin", (event) => keys.includes(event.target) && stop(event.target));
    group.addEventListener("keydown", (event) => {
      const row = rows.findIndex((cells) => cells.includes(event.target));
      if (row < 0 || event.altKey || event.ctrlKey || event.metaKey) return;               // the browser's own: Alt+← goes back
      const column = rows[row].indexOf(event.target), end = rows[row].length - 1;
      const between = rows.length > 1 ? { ArrowUp: [-1, column], ArrowDown: [1, column] } : {};   // in a single row they scroll the page
      const [down, across] = { ArrowLeft: [0, column - 1], ArrowRight: [0, column + 1], Home: [0, 0], End: [0, end], ...between }[event.key] ?? [];
      if (down === undefined) return;
      event.preventDefault();
      rows[Math.max(0, Math.min(row + down, rows.length - 1))][Math.max(0, Math.min(across, end))].focus();
    });
  };
  const thousands = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ",");
  const figures = (value) => {                          // three of them, as the lab writes numbers
    const rounded = Number(value.toPrecision(3));
    const decimals = rounded > 0 ? Math.max(0, 2 - Math.floor(Math.log10(rounded))) : 0;
    const [whole, part] = rounded.toFixed(decimals).split(".");
    return thousands(whole) + (part ? "." + part : "");
  };
  const written = (ms) => (ms < 9995 ? figures(ms) + " ms" : figures(ms / 1000) + " s");
  const slowest = Math.max(1, ...data.lanes.map((lane) => lane.end));
  const finishes = data.lanes.map((lane) => lane.finish);
  const fastest = Math.min(...finishes), last = Math.max(...finishes), isShort = last < 2000;
  const isLong = last >= 9995;                          // the clocks are read beside each other: one unit for all
  const going = (ms) => (isLong ? (ms / 1000).toFixed(ms < 10000 ? 2 : 1) + " s" : thousands(String(Math.round(ms))) + " ms");
  const stopped = (ms) => (isLong ? figures(ms / 1000) + " s" : figures(ms) + " ms");
  if (race.hatched.includes(data.kind)) make(root, "div", "hatched").title = data.kind;
  const board = make(root, "div", "lanes");
  const lanes = data.lanes.map((lane) => {
    const box = make(board, "div", "lane");
    box.style.setProperty("--arm", lane.colour);
    const head = make(box, "div", "head");
    const name = make(head, "span", "name");
    lane.arm.split(/(?<=\.)/).forEach((part) => { name.append(part); make(name, "wbr"); });   // technique.arm breaks between the two
    const clock = make(head, "span", "clock", going(0));
    const note = make(box, "div", "note");
    const track = make(box, "div", "track");
    const run = make(track, "div", "run"), after = make(track, "div", "after");
    const at = lane.arrivals.map(([ms]) => ms);
    const flag = at.length ? make(track, "div", "flag") : null, post = make(track, "div", "post");
    if (flag) Object.assign(flag, { title: "first text" }).style.left = (100 * at[0]) / slowest + "%";
    post.title = data.line;
    after.style.left = (100 * lane.finish) / slowest + "%";
    post.style.left = (100 * lane.finish) / slowest + "%";
    const paper = make(box, "div", "paper");
    const text = make(paper, "p", "text");
    const node = document.createTextNode(""), rest = document.createTextNode("");
    text.append(node);
    make(text, "span", "rest").append(rest);
    make(text, "span", "caret");
    const ends = [];
    let whole = "";
    for (const [, part] of lane.arrivals) {
      whole += typeof part === "number" ? "\u2588".repeat(part) : part;
      ends.push(whole.length);
    }
    const until = at.filter((ms) => ms <= lane.finish).length;   // arrivals that the finish line counts
    const moments = [[lane.finish, data.line]];
    if (at.length && Math.abs(at[0] - lane.finish) > 0.5) moments.push([at[0], "first text"]);
    if (Math.abs(lane.end - lane.finish) > 0.5) moments.push([lane.end, "end"]);
    moments.sort(([one], [other]) => one - other).forEach((moment) => { moment[1] += " " + written(moment[0]); });
    return { ...lane, moments, box, clock, note, run, after, flag, node, rest, at, ends, whole, seen: 0, line: until ? ends[until - 1] : 0 };
  });
  const length = (lane, now) => {                      // characters that had arrived by `now`
    let low = 0, high = lane.at.length;
    while (low < high) { const mid = (low + high) >> 1; if (lane.at[mid] <= now) low = mid + 1; else high = mid; }
    return low ? lane.ends[low - 1] : 0;
  };
  const put = (node, whole, from, to) => {             // the characters between, of which the node has the first already
    if (to - from > node.length) node.appendData(whole.slice(from + node.length, to));
    else if (to - from < node.length) node.deleteData(to - from, node.length);
  };

  const controls = make(root, "div", "controls");
  const button = make(controls, "button", "play", "Play");
  button.type = "button";
  const scrub = make(controls, "input");
  Object.assign(scrub, { type: "range", min: 0, max: slowest, step: "any", value: 0 });
  scrub.setAttribute("aria-label", "Position in the race");
  const speeds = make(controls, "div", "speeds");
  speeds.setAttribute("aria-label", "Speed");
  let now = 0, speed = isShort ? 0.25 : 1, isChosen = false, playing = false, before = 0, frame = 0;
  const choices = [0.25, 0.5, 1, 2, 4].map((factor) => {
    const key = make(speeds, "button", "", "×" + factor);
    key.type = "button";
    key.onclick = () => { isChosen = true; speed = factor; press(); };
    return [factor, key];
  });
  const press = () => choices.forEach(([factor, key]) => key.setAttribute("aria-pressed", String(factor === speed)));
  press();
  roving(speeds, [choices.map(([, key]) => key)]);

  const inFilm = (ms) => (slowest < 9995 ? written(ms) : figures(ms / 1000) + " s");   // one unit under the film
  const step = slowest <= 5000 ? slowest / 10 : 500 * Math.ceil(slowest / 6500);   // as many as stand side by side
  const frames = Math.ceil(slowest / step - 0.01);      // the last shows the end, whatever the step
  const film = make(root, "div", "film");
  film.setAttribute("aria-label", "Film");
  roving(film, data.lanes.map((lane, row) => {
    const strip = make(film, "div", "strip");
    strip.style.setProperty("--arm", lane.colour);
    return Array.from({ length: frames }, (_, at) => at + 1).map((nth) => {
      const moment = nth < frames ? nth * step : slowest;
      const cell = make(strip, "button", "frame" + (moment >= lane.finish ? " whole" : ""));
      cell.type = "button";
      cell.setAttribute("aria-label", lane.arm + " at " + inFilm(moment));
      make(cell, "i", "", lanes[row].whole.slice(0, Math.min(length(lanes[row], moment), 400)));
      if (row === data.lanes.length - 1) make(cell, "span", "at", inFilm(moment));
      cell.onclick = () => { pause(); seek(moment); };
      return cell;
    });
  }));

  const said = (lane) => {
    const parts = lane.moments.filter(([ms]) => now >= ms).map(([, words]) => words);
    if (now >= lane.end && !lane.at.length) parts.push("no text to show");
    if (now >= lane.end && lane.failed) parts.push(lane.failed);
    return (parts.join(", ") || "waiting") + " · trial " + lane.trial;
  };
  const draw = () => {
    for (const lane of lanes) {
      const n = length(lane, now), late = lane.finish - fastest, finished = now >= lane.finish;
      if (n !== lane.seen) {
        put(lane.node, lane.whole, 0, Math.min(n, lane.line));
        put(lane.rest, lane.whole, lane.line, Math.max(n, lane.line));
        lane.seen = n;
      }
      lane.clock.textContent = !finished ? going(now) : late > 0 ? "+" + stopped(late) : stopped(lane.finish);
      lane.box.classList.toggle("finished", finished);
      lane.box.classList.toggle("done", now >= lane.end);
      if (lane.flag) lane.flag.classList.toggle("up", now >= lane.at[0]);
      lane.run.style.transform = `scaleX(${Math.min(now, lane.finish) / slowest})`;
      lane.after.style.transform = `scaleX(${Math.max(0, Math.min(now, lane.end) - lane.finish) / slowest})`;
      const words = said(lane);
      if (lane.note.textContent !== words) lane.note.textContent = words;
    }
    scrub.value = now;
    scrub.setAttribute("aria-valuetext", written(now) + " from the start");
    point();
  };

  /* The same clock on the figures beside it: a line at this moment, and a drag across them that moves it. */
  const plots = () => [...document.querySelectorAll(".js-plotly-plot")].filter((plot) => plot.layout?.meta?.clock === "trial" && plot._fullLayout?.xaxis?.d2p);
  const point = () => {
    for (const plot of plots()) {
      const { xaxis: across, yaxis: up } = plot._fullLayout;
      let line = plot.querySelector(":scope > .race-cursor");
      if (!line) {
        line = make(plot, "div", "race-cursor");
        line.style.cssText = "position:absolute;width:0;border-left:1px solid currentColor;opacity:.7;pointer-events:none;z-index:2";
        plot.style.position = "relative";
        plot.style.touchAction = "pan-y";
      }
      const x = across.d2p(now);
      line.style.display = now > 0 && now < slowest && x >= 0 && x <= across._length ? "" : "none";
      Object.assign(line.style, { left: across._offset + x + "px", top: up._offset + "px", height: up._length + "px" });
    }
  };
  let drag = null;
  const listeners = {
    pointerdown: (event) => {
      const plot = event.button === 0 && event.target.closest?.(".js-plotly-plot");
      drag = plot && plots().includes(plot) ? { plot, from: event.clientX, moved: false } : null;
    },
    pointermove: (event) => {
      if (!drag || (!drag.moved && Math.abs(event.clientX - drag.from) < 8)) return;   // a click stays a click
      if (!drag.moved) pause();
      drag.moved = true;
      const across = drag.plot._fullLayout.xaxis;
      seek(across.p2d(event.clientX - drag.plot.getBoundingClientRect().left - across._offset));
    },
    pointerup: () => { drag = null; },
    pointercancel: () => { drag = null; },
  };
  const listen = (change) => Object.entries(listeners).forEach(([name, hear]) => document[change](name, hear, true));
  for (const [name, hear] of Object.entries(listeners)) {
    listeners[name] = (event) => (root.isConnected ? hear(event) : root.stop?.());         // a page that went away leaves none behind
  }
  listen("addEventListener");

  const seek = (ms) => { now = Math.max(0, Math.min(ms, slowest)); draw(); label(); };
  const label = () => { const words = playing ? "Pause" : now >= slowest ? "Replay" : "Play"; if (button.textContent !== words) button.textContent = words; };
  const tick = (time) => {
    if (!playing) return;
    now = Math.min(slowest, now + (time - before) * speed);
    before = time;
    if (now >= last && speed < 1 && !isChosen) { speed = 1; press(); }                     // decided: the rest at its own pace
    draw();
    if (now >= slowest) playing = false; else frame = requestAnimationFrame(tick);
    label();
  };
  const play = () => {
    if (now >= slowest) { now = 0; if (!isChosen) { speed = isShort ? 0.25 : 1; press(); } }
    playing = true;
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame((time) => { before = time; tick(time); });
    label();
  };
  const pause = () => { playing = false; cancelAnimationFrame(frame); label(); };
  button.onclick = () => (playing ? pause() : play());
  scrub.oninput = () => { pause(); seek(Number(scrub.value)); };

  let seen = null;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) seek(slowest);
  else {
    seek(0);
    seen = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) { seen.disconnect(); play(); } }, { threshold: 0.4 });
    seen.observe(board);
  }
  if (data.arrived && !race.arrived.has(data.key)) {     // the run was watched to its end: what its dots become comes into view, once
    race.arrived.add(data.key);
    setTimeout(() => controls.scrollIntoView({ block: "nearest" }), 50);
  }
  root.recolour = (fresh) => fresh.lanes.forEach((lane, row) => {
    lanes[row].box.style.setProperty("--arm", lane.colour);
    film.children[row].style.setProperty("--arm", lane.colour);
  });
  root.stop = () => {
    pause();
    if (seen) seen.disconnect();
    listen("removeEventListener");
    document.querySelectorAll(".race-cursor").forEach((line) => line.remove());
    root.stop = null;
  };
  return root.stop;
}
race.arrived = new Set();
