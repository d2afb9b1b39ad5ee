// What the page shows, as plain values: nothing here touches the document, a clock or the network.

/** A field deep in an answer, by a path such as `says.node.hints`; `undefined` if any step is missing. */
export function at(answer, path) {
  return path.split('.').reduce((value, step) => (value == null ? undefined : value[step]), answer);
}

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

export function count(number) {
  return isNumber(number) ? Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, ',') : '–';
}

export function bytes(number) {
  if (!isNumber(number)) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${unit === 0 || number >= 10 ? Math.round(number) : number.toFixed(1)} ${units[unit]}`;
}

export function span(ms) {
  if (!isNumber(ms)) return '–';
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function micros(us) {
  if (!isNumber(us)) return '–';
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 10000) return `${(us / 1000).toFixed(1)} ms`;
  return us < 1e6 ? `${Math.round(us / 1000)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

export const percent = (share) => (isNumber(share) ? `${(share * 100).toFixed(1)} %` : '–');

/** What the clients of all nodes asked for lately: in total, of the hottest partition, and what each node carries. */
export function load(overview) {
  const perSecond = (node, number) => number / Math.max(at(node, 'says.load.window_ms') / 1000, 1);
  const told = overview.nodes.filter((node) => at(node, 'says.load.requests') !== undefined);
  const total = told.reduce((all, node) => all + perSecond(node, at(node, 'says.load.requests')), 0);
  const hot = new Map();
  const carried = new Map();
  for (const node of told) {
    for (const { partition, requests, homes } of at(node, 'says.load.hottest')) {
      const known = hot.get(partition) || { partition, requests: 0, homes };
      hot.set(partition, { ...known, requests: known.requests + perSecond(node, requests) });
    }
    for (const [name, requests] of Object.entries(at(node, 'says.load.carries'))) {
      carried.set(name, (carried.get(name) || 0) + perSecond(node, requests));
    }
  }
  const all = [...carried.values()].reduce((one, other) => one + other, 0);
  const weights = overview.nodes.reduce((all, node) => all + (at(node, 'described.weight') || 0), 0);
  const shares = new Map(overview.nodes.map((node) => {
    const carries = all > 0 ? (carried.get(node.name) || 0) / all : undefined;
    const fair = weights > 0 ? at(node, 'described.weight') / weights : undefined;
    // The band of the paper, 6.2.
    return [node.name, { carries, fair, isOut: Math.abs(carries - fair) > 0.15 * fair }];
  }));
  return { total, shares, hottest: [...hot.values()].sort((a, b) => b.requests - a.requests)[0] };
}

/** One row of the table of nodes. */
export function row(node, share) {
  const waits = at(node, 'says.store.reclaim_blocked_by') || [];
  return {
    name: node.name,
    isAsked: at(node, 'described.self') === true,
    state: node.state,
    colour: node.colour,
    address: at(node, 'described.http') || '–',
    zone: at(node, 'described.zone') || '–',
    version: at(node, 'says.version') || '–',
    stored: bytes(at(node, 'says.store.stored_bytes')),
    load: percent(share && share.carries),
    isOut: Boolean(share && share.isOut),
    sync: micros(at(node, 'says.store.sync_mean_us')),
    hints: count(at(node, 'says.node.hints')),
    oldestHint: at(node, 'says.node.hints') > 0 ? span(at(node, 'says.node.hint_oldest_ms')) : '–',
    verified: span(at(node, 'says.audits.oldest_ms')),
    unseen: count(unseen(node)),
    tombstones: count(at(node, 'says.store.tombstones')),
    waitsFor: waits.length > 0 ? waits.join(', ') : '–',
    uptime: span(at(node, 'says.node.uptime_ms')),
  };
}

/** Writes that other homes have seen and this node has not. */
export function unseen(node) {
  const behind = at(node, 'says.behind');
  return behind && behind.reduce((sum, lag) => sum + lag.unseen, 0);
}

/** All problems of an overview, with the names of their nodes; first those of the ring, then of nodes that do not serve. */
export function problems(overview) {
  const rank = { red: 0, yellow: 1, green: 2 };
  const worst = [...overview.nodes].sort((a, b) => rank[a.colour] - rank[b.colour]);
  const ofRing = overview.change.problems.map((problem) => ({ node: 'the ring', ...problem }));
  return [...ofRing, ...worst.flatMap((node) => node.problems.map((problem) => ({ node: node.name, ...problem })))];
}

const sum = (nodes, path) => nodes.reduce((total, node) => total + (at(node, path) || 0), 0);
const most = (nodes, path) => {
  const values = nodes.map((node) => at(node, path)).filter(isNumber);
  return values.length > 0 ? Math.max(...values) : undefined;
};

/** Pairs of a name and a value for the whole cluster, over those nodes that answered. */
export function figures(overview) {
  const nodes = overview.nodes.filter((node) => node.says);
  const waits = new Set(nodes.flatMap((node) => at(node, 'says.store.reclaim_blocked_by') || []));
  const tombstones = count(sum(nodes, 'says.store.tombstones'));
  const hints = sum(nodes, 'says.node.hints');
  const missing = sum(nodes, 'says.audits.missing');
  const different = sum(nodes, 'says.audits.different');
  const refilling = nodes.reduce((total, node) => total + (at(node, 'says.refilling') || []).length, 0);
  return [
    ['Hints pending', hints > 0 ? `${count(hints)}, the oldest for ${span(most(nodes, 'says.node.hint_oldest_ms'))}` : 'none'],
    ['Oldest verified audit', `${span(most(nodes, 'says.audits.oldest_ms'))} ago`],
    ['Audits', missing + different > 0
      ? `${count(missing)} not yet done, ${count(different)} left a difference`
      : 'all copies found the same'],
    ['Writes not yet seen everywhere', count(nodes.reduce((total, node) => total + (unseen(node) || 0), 0))],
    ['Partitions being refilled', count(refilling)],
    ['Tombstones', waits.size > 0 ? `${tombstones}, waiting for ${[...waits].join(', ')}` : tombstones],
    ['Reads that showed siblings', count(sum(nodes, 'says.conflicts.shown'))],
    ['Merges that left siblings', count(sum(nodes, 'says.conflicts.joined'))],
    ['Homes at odds in audits', count(sum(nodes, 'says.conflicts.audits'))],
    ...loadFigures(load(overview)),
  ];
}

function loadFigures({ total, hottest, shares }) {
  const words = hottest && total > 0
    ? `${hottest.partition}, with ${percent(hottest.requests / total)} of requests, at ${hottest.homes.join(', ')}`
    : 'none in the last minute or two';
  const out = [...shares.values()].filter((share) => share.isOut).length;
  return [
    ['Hottest partition', words],
    ['Load over 15 % off what is fair', `${count(out)} of ${count(shares.size)} nodes`],
  ];
}

/** A colour for each of `many` members, told apart as well as so many can be. */
export function hue(index, many) {
  return many <= 12 ? Math.round((index * 360) / many + 205) % 360 : Math.round(index * 137.508) % 360;
}
