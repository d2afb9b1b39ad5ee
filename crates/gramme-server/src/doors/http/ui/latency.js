// Latency over the last five minutes, from histograms that only ever grow: what is shown is the difference of two
// looks. Nodes that start again count from zero, and are then taken as they are.

import { at, count, micros } from './model.js';

const NS = 'http://www.w3.org/2000/svg';
const WINDOW_MS = 300000;
export const OPERATIONS = ['get', 'put'];
export const QUANTILES = [['p50', 0.5], ['p99', 0.99], ['p99.9', 0.999]];

const total = (pairs) => pairs.reduce((sum, [, n]) => sum + n, 0);

/** What was counted between two looks at one histogram: a map from a bucket's bound to its count. */
export function grown(before, now) {
  const restarted = !before || total(now) < total(before);
  const earlier = new Map(restarted ? [] : before);
  const grew = now.map(([bound, n]) => [bound, n - (earlier.get(bound) || 0)]);
  return new Map(grew.filter(([, n]) => n > 0));
}

/** The sum of histograms. */
export function merged(histograms) {
  const all = new Map();
  for (const histogram of histograms) {
    for (const [bound, n] of histogram) all.set(bound, (all.get(bound) || 0) + n);
  }
  return all;
}

/** The upper bound of the bucket in which a quantile lies; `undefined` if nothing was counted. */
export function quantile(histogram, q) {
  const bounds = [...histogram].sort((a, b) => a[0] - b[0]);
  let rank = Math.ceil(total(bounds) * q);
  for (const [bound, n] of bounds) {
    rank -= n;
    if (rank <= 0) return bound;
  }
  return undefined;
}

/** What was seen since the page was opened, for five minutes. */
export class History {
  constructor() {
    this.last = new Map();
    this.looks = [];
  }

  /** Takes an overview at a time in milliseconds. */
  add(overview, now) {
    const look = { now };
    for (const operation of OPERATIONS) look[operation] = [];
    for (const node of overview.nodes) {
      for (const operation of OPERATIONS) {
        const counts = at(node, `says.latency.${operation}`);
        if (!counts) continue;
        const key = `${operation} ${node.name}`;
        // The first look at a node says what was before, not what is now.
        if (this.last.has(key)) look[operation].push(grown(this.last.get(key), counts));
        this.last.set(key, counts);
      }
    }
    for (const operation of OPERATIONS) look[operation] = merged(look[operation]);
    this.looks.push(look);
    this.looks = this.looks.filter((old) => now - old.now <= WINDOW_MS);
  }

  /** A quantile of each look, and where it lies in the window: pairs of 0 to 1 and microseconds. */
  points(operation, q, now) {
    const points = this.looks.map((look) => [1 - (now - look.now) / WINDOW_MS, quantile(look[operation], q)]);
    return points.filter(([, us]) => us !== undefined);
  }

  /** Everything of the window together. */
  all(operation) {
    return merged(this.looks.map((look) => look[operation]));
  }

  /** Operations in a second, over the latest looks. */
  rate(operation) {
    const recent = this.looks.slice(-6);
    if (recent.length < 2) return undefined;
    const seconds = (recent[recent.length - 1].now - recent[0].now) / 1000;
    const done = recent.slice(1).reduce((sum, look) => sum + total([...look[operation]]), 0);
    return seconds > 0 ? done / seconds : undefined;
  }
}

const WIDTH = 300;
const HEIGHT = 74;

/** Where a duration lies in the chart: the scale is logarithmic, from 100 microseconds to 10 seconds. */
export function height(us) {
  const share = (Math.log10(Math.max(us, 100)) - 2) / 5;
  return HEIGHT - 4 - Math.min(share, 1) * (HEIGHT - 8);
}

/** The line through points; it breaks where nothing was measured for ten seconds. */
export function path(points) {
  let before = -1;
  return points.map(([x, us]) => {
    const step = x - before > 10000 / WINDOW_MS ? 'M' : 'L';
    before = x;
    return `${step}${(x * WIDTH).toFixed(1)} ${height(us).toFixed(1)}`;
  }).join('');
}

function element(name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function add(parent, name, className, text) {
  const made = parent.appendChild(document.createElement(name));
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Builds the charts once; the function that is given back redraws them. */
export function mount(host) {
  const charts = OPERATIONS.map((operation) => {
    const box = add(host, 'div', 'chart');
    const head = add(box, 'p', 'chart-head');
    add(head, 'strong', '', operation);
    const rate = add(head, 'span', 'quiet');
    const values = QUANTILES.map(([name], i) => {
      const value = add(head, 'span', `line-${i} value`);
      add(value, 'span', 'quiet', name);
      return add(value, 'b', '', '–');
    });
    const svg = box.appendChild(element('svg', {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `${operation} latency over five minutes`,
    }));
    for (const [us, label] of [[1000, '1 ms'], [10000, '10 ms'], [100000, '100 ms'], [1000000, '1 s']]) {
      const y = height(us);
      svg.append(element('line', { x1: 0, x2: WIDTH, y1: y, y2: y, class: 'grid' }));
      svg.append(element('text', { x: 2, y: y - 2 }, label));
    }
    const lines = QUANTILES.map((_, i) => svg.appendChild(element('path', { class: `line-${i}` })));
    return { operation, rate, values, lines };
  });
  return (history, now) => {
    for (const { operation, rate, values, lines } of charts) {
      const all = history.all(operation);
      const perSecond = history.rate(operation);
      rate.textContent = perSecond === undefined ? '' : `${count(perSecond)}/s`;
      QUANTILES.forEach(([, q], i) => {
        values[i].textContent = micros(quantile(all, q));
        lines[i].setAttribute('d', path(history.points(operation, q, now)));
      });
    }
  };
}
